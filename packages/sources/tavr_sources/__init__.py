"""Stage: a versioned snapshot of source files."""
