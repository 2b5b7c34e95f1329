"""`python -m tavr_benchmark`."""

from tavr_records.process import run_stage

from tavr_benchmark.config import BenchmarkConfig


def main() -> None:
    """Run the stage."""
    from tavr_benchmark.stage import benchmark

    run_stage("benchmark", BenchmarkConfig, benchmark)


if __name__ == "__main__":
    main()
