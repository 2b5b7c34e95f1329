"""Flow matching, masked DPO, the DeepSpeed loop, data set, checkpoint, metrics."""
