"""`python -m tavr_weights`."""

from tavr_records.process import run_stage

from tavr_weights.config import WeightsConfig


def main() -> None:
    """Run the stage."""
    from tavr_weights.stage import weights

    run_stage("weights", WeightsConfig, weights)


if __name__ == "__main__":
    main()
