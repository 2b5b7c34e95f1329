"""`python -m tavr_stage1`."""

from tavr_records.process import run_stage

from tavr_stage1.config import Stage1Config


def main() -> None:
    """Run the stage."""
    from tavr_stage1.stage import stage1

    run_stage("stage1", Stage1Config, stage1)


if __name__ == "__main__":
    main()
