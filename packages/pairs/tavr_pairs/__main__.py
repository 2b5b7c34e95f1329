"""`python -m tavr_pairs`."""

from tavr_records.process import run_stage

from tavr_pairs.config import PairsConfig


def main() -> None:
    """Run the stage."""
    from tavr_pairs.stage import pairs  # heavy imports after the arguments are known to be good

    run_stage("pairs", PairsConfig, pairs)


if __name__ == "__main__":
    main()
