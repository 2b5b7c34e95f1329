"""TAVR on Wan2.1: transformer, attention, token selection, pipeline, cost."""
