"""Stage: pretrained weights, pinned by sha256."""
