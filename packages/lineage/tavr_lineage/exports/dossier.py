"""What every export reads: one candidate's record, its consumption table, its pinned dependencies and its log lines."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
import pyarrow.compute
from tavr_records.errors import InputError
from tavr_records.ids import sha256_bytes

from tavr_lineage.closure import read_consumption
from tavr_lineage.git import main_checkout, read_file, repository_root
from tavr_lineage.outputs import stored_files
from tavr_lineage.policy import POLICY, read_policy
from tavr_lineage.record import RECORD, parse_record
from tavr_lineage.registry import holder, list_versions, resolve_candidate
from tavr_lineage.trust.attest import ATTESTATION
from tavr_lineage.trust.log import read_log

pc: Any = pyarrow.compute  # its functions are made when it is imported

REQUIREMENTS = "requirements.lock"
LICENCES = "requirements.licences.json"
LIMITS = "docs/limits.md"
STATED = "to be stated by the provider"
TRAINED = ("stage1", "stage2", "stage3")
_RELEASE_EVENTS = ("approved", "rejected", "promoted", "refused", "rolled back")


@dataclass(frozen=True)
class Dossier:
    """A candidate as its commit and the audit log tell of it.

    Attributes:
        artifact: the registry's name of the model.
        version: `v0.0.3`; "" for a candidate that was never registered.
        commit: the candidate's commit, which holds the record.
        consumption: the consumption table.
        sources: the document `sources.lock` of the run; empty when the commit has none.
        requirements: bytes of `requirements.lock`; empty when the commit has none.
        licences: `name==version` -> declared licence (`requirements.licences.json`).
        stored: path -> file in this machine's DVC cache, which need not be there.
        limits: bullets of `docs/limits.md` by heading.
        events: decisions in the audit log about this run or commit, oldest first.
    """

    artifact: str
    version: str
    commit: str
    record: Mapping[str, Any]
    record_sha256: str
    attestation_sha256: str
    consumption: pa.Table
    sources: Mapping[str, Any]
    requirements: bytes
    licences: Mapping[str, str]
    stored: Mapping[str, Path]
    limits: Mapping[str, Sequence[str]]
    events: Sequence[Mapping[str, Any]]

    @property
    def name(self) -> str:
        """`tavr@v0.0.3`, or `tavr run 20260101-0123abcd` for a candidate without a version."""
        run_id = self.record["run"]["run_id"]
        return f"{self.artifact}@{self.version}" if self.version else f"{self.artifact} run {run_id}"

    @property
    def model_files(self) -> dict[str, str]:
        """Path -> sha256 of every file of the model that the benchmark judged; of all models before a benchmark."""
        params = self.record["params"].get("benchmark", {})
        method = params.get("methods", {}).get(params.get("candidate", ""), {})
        prefix = f"{method['model']}/" if "model" in method else ""
        files = {path: digest for path, digest in self.record["outputs"].items() if "/model/" in path}
        last = max((path.split("/")[1] for path in files), default="")
        judged = {path: digest for path, digest in files.items() if prefix and path.startswith(prefix)}
        return judged or {path: digest for path, digest in files.items() if path.startswith(f"data/{last}/")}

    def uses(self) -> dict[str, "Use"]:
        """What each stage of the consumption table used, by count."""
        table = self.consumption
        stages = sorted(set(table["stage"].to_pylist()))
        return {stage: count_use(table.filter(pc.equal(table["stage"], stage))) for stage in stages}

    def training(self) -> "Use":
        """What the trainings together consumed, each clip once."""
        return count_use(self.consumption.filter(pc.is_in(self.consumption["stage"], value_set=pa.array(TRAINED))))


@dataclass(frozen=True)
class Use:
    """How much data a use took: distinct clips with their people, sources and length, and samples drawn from them."""

    clips: int
    people: int
    sources: int
    seconds: int
    samples: int
    rights: tuple[str, ...]


def count_use(table: pa.Table) -> Use:
    """Count rows of the consumption table; a clip that several stages used is one clip."""
    clips = table.group_by("clip_id").aggregate([("start_ms", "min"), ("end_ms", "max")])
    return Use(
        clips=len(clips),
        people=len(table["person_id"].unique()),
        sources=len(table["source_key"].unique()),
        seconds=(pc.sum(pc.subtract(clips["end_ms_max"], clips["start_ms_min"])).as_py() or 0) // 1000,
        samples=pc.sum(table["samples"]).as_py() or 0,
        rights=tuple(sorted(table["rights"].unique().to_pylist())),
    )


def open_dossier(root: Path, name: str) -> Dossier:
    """Find a candidate by `tavr@v0.0.3`, `v0.0.3`, a stage such as `dev`, a run id or a commit, and read it from git.

    Raises:
        InputError: no such candidate, or it carries no record, or the stage is held by nobody.
    """
    root = repository_root(root)
    policy = read_policy(root / POLICY)
    held = holder(root, policy.artifact, name) if name in policy.targets else None
    if name in policy.targets and held is None:
        raise InputError(f"{name}: no version holds this stage; promote one with `tavr promote`")
    label = name.removeprefix(f"{policy.artifact}@")
    commit = held.commit if held is not None else resolve_candidate(root, label, policy.artifact)
    data = read_file(root, commit, RECORD)
    if data is None:
        raise InputError(f"{name}: commit {commit[:12]} carries no {RECORD}; name a finished run")
    record = parse_record(data, f"{commit[:12]}:{RECORD}")
    attestation = read_file(root, commit, ATTESTATION)
    licences = read_file(root, commit, LICENCES)
    return Dossier(
        artifact=policy.artifact,
        version=next((v.label for v in list_versions(root, policy.artifact) if v.commit == commit), ""),
        commit=commit,
        record=record,
        record_sha256=sha256_bytes(data),
        attestation_sha256=sha256_bytes(attestation) if attestation is not None else "",
        consumption=read_consumption(root, commit, record),
        sources=_sources(read_file(root, commit, record["params"].get("sources", {}).get("lock", "sources.lock"))),
        requirements=read_file(root, commit, REQUIREMENTS) or b"",
        licences=cast("dict[str, str]", json.loads(licences)) if licences is not None else {},
        stored=dict(stored_files(read_file(root, commit, "dvc.lock") or b"", main_checkout(root) / ".dvc/cache")),
        limits=read_limits(read_file(root, commit, LIMITS) or b""),
        events=_events(root, commit, record["run"]["run_id"]),
    )


def _sources(lock: bytes | None) -> dict[str, Any]:
    try:
        document = json.loads(lock or b"{}")
    except ValueError:  # not this project's lock: nothing is known of it
        return {}
    return cast("dict[str, Any]", document) if isinstance(document, dict) and "rows" in document else {}


def _events(root: Path, commit: str, run_id: str) -> list[dict[str, Any]]:
    return [
        entry
        for entry in read_log(root)
        if entry["event"] in _RELEASE_EVENTS and (entry.get("run") == run_id or entry.get("commit") == commit)
    ]


def read_limits(page: bytes) -> dict[str, tuple[str, ...]]:
    """The bullets of a page (`docs/limits.md`) by heading, each as one line."""
    found: dict[str, list[str]] = {}
    heading = ""
    for line in page.decode("utf-8", errors="replace").splitlines():
        if line.startswith("## "):
            heading = line.removeprefix("## ").strip()
        elif line.startswith("- ") and heading:
            found.setdefault(heading, []).append(line.removeprefix("- ").strip())
        elif line.startswith("  ") and heading in found:
            found[heading][-1] += f" {line.strip()}"
    return {name: tuple(lines) for name, lines in found.items()}
