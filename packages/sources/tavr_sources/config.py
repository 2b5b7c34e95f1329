"""Parameters of the stage `sources`; values live in `conf/stage/sources.yaml`."""

from dataclasses import dataclass


@dataclass
class SourcesConfig:
    """`lock`: the file that names the snapshot (`docs/schemas/sources.lock.schema.json`), the stage's only input."""

    lock: str


@dataclass
class CheckSourcesConfig:
    """What `check_sources` demands of the snapshot: enough records, and sections of a sensible length in seconds."""

    min_records: int
    max_section_seconds: float
