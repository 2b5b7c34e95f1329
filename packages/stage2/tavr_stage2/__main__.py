"""`python -m tavr_stage2`."""

from tavr_records.process import run_stage

from tavr_stage2.config import Stage2Config


def main() -> None:
    """Run the stage."""
    from tavr_stage2.stage import stage2

    run_stage("stage2", Stage2Config, stage2)


if __name__ == "__main__":
    main()
