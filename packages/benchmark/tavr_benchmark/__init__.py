"""Stage: the paper's metrics on the benchmark split, with report."""
