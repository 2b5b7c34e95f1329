"""Who signed what, and what stands on the log: keys, signatures, checkpoints, approvals."""
