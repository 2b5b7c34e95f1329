"""A person, clip or source is withdrawn: tombstones, remedies, purge, certificate."""
