"""Stage: same-scene video pretraining."""
