"""The time as the record and the log write it."""

import datetime as dt


def now() -> str:
    """Now in UTC, to the second: `2026-01-31T12:00:00Z`."""
    return dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
