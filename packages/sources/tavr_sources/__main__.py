"""`python -m tavr_sources`."""

from tavr_records.process import run_stage

from tavr_sources.config import SourcesConfig


def main() -> None:
    """Run the stage."""
    from tavr_sources.stage import sources  # heavy imports after the arguments are known to be good

    run_stage("sources", SourcesConfig, sources)


if __name__ == "__main__":
    main()
