"""`python -m tavr_ingest`."""

from tavr_records.process import run_stage

from tavr_ingest.config import IngestConfig


def main() -> None:
    """Run the stage."""
    from tavr_ingest.stage import ingest  # heavy imports after the arguments are known to be good

    run_stage("ingest", IngestConfig, ingest)


if __name__ == "__main__":
    main()
