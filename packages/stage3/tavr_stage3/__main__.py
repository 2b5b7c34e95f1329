"""`python -m tavr_stage3`."""

from tavr_records.process import run_stage

from tavr_stage3.config import Stage3Config


def main() -> None:
    """Run the stage."""
    from tavr_stage3.stage import stage3

    run_stage("stage3", Stage3Config, stage3)


if __name__ == "__main__":
    main()
