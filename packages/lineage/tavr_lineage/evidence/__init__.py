"""The evidence of a release: gathered, packed, and verified."""
