"""`python -m tavr_latents`."""

from tavr_records.process import run_stage

from tavr_latents.config import LatentsConfig


def main() -> None:
    """Run the stage."""
    from tavr_latents.stage import latents  # heavy imports after the arguments are known to be good

    run_stage("latents", LatentsConfig, latents)


if __name__ == "__main__":
    main()
