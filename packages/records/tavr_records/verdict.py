"""Verdicts of the checks, and what a later stage does with them: start, start without some rows, or refuse."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tavr_records.atomic import write_bytes
from tavr_records.errors import InputError, RefusedError
from tavr_records.ids import canonical_json
from tavr_records.manifest import read_manifest
from tavr_records.schemas import Refused

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class CheckResult:
    """One expectation: `severity` is critical, warning or info; `observed` and `limit` are JSON scalars or text."""

    id: str
    severity: str
    passed: bool
    observed: Any
    limit: Any


@dataclass(frozen=True)
class Verdict:
    """`reports/<stage>/verdict.json`; `critical` is true when a critical check failed."""

    stage: str
    checks: tuple[CheckResult, ...]
    schema_version: int = SCHEMA_VERSION

    @property
    def failed_critical(self) -> list[CheckResult]:
        """The critical checks that failed."""
        return [check for check in self.checks if check.severity == "critical" and not check.passed]

    def to_json(self) -> dict[str, Any]:
        """The verdict as the JSON document of the contract."""
        return {
            "schema_version": self.schema_version,
            "stage": self.stage,
            "checks": [asdict(check) for check in sorted(self.checks, key=lambda check: check.id)],
            "critical": bool(self.failed_critical),
        }


def write_verdict(path: Path, verdict: Verdict) -> None:
    """Write `verdict.json` in canonical bytes."""
    write_bytes(path, canonical_json(verdict.to_json()) + b"\n")


def read_verdict(path: Path) -> Verdict:
    """Read `verdict.json`.

    Raises:
        InputError: the file is missing or is not a verdict.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such verdict; run `dvc repro check_{path.parent.name}` first")
    try:
        document = json.loads(path.read_bytes())
        checks = tuple(CheckResult(**check) for check in document["checks"])
        return Verdict(document["stage"], checks, document["schema_version"])
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise InputError(f"{path}: not a verdict ({error}); run its check again") from error


def quarantine_path(stage: str, reports: Path = Path("reports")) -> Path:
    """Where `check_<stage>` lists the ids that no later stage may use."""
    return reports / stage / "quarantine.parquet"


def require_passed(stage: str, reports: Path = Path("reports")) -> set[str]:
    """Refuse to start after a critical failure of `check_<stage>`; else return the quarantined ids.

    Raises:
        RefusedError: names the verdict and the failed rules.
    """
    path = reports / stage / "verdict.json"
    failed = read_verdict(path).failed_critical
    if failed:
        rules = "; ".join(f"{c.id} (observed {c.observed}, limit {c.limit})" for c in failed)
        raise RefusedError(f"{path}: refused by {rules}")
    return {row.record_id for row in read_manifest(quarantine_path(stage, reports), Refused)}
