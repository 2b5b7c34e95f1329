"""Releases in object storage: published, pulled and verified, taken back."""
