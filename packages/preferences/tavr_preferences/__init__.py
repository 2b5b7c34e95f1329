"""Stage: preference pairs mined from the stage2 model."""
