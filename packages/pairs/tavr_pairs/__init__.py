"""Stage: cross-scene clip pairs and the benchmark split."""
