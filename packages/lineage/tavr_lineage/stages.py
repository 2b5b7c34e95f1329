"""The stages through which a clip can get into a model."""

JUDGED = "benchmark"
"""The one that does not learn from what it uses."""
ORDER = ("stage1", "stage2", "preferences", "stage3", JUDGED)
"""Earliest first."""
