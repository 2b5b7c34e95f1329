"""Stage: cross-scene video fine-tuning."""
