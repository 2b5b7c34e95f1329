"""Every finished run that git holds: the tips of `run/<id>` and the commits that a version names."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tavr_records.errors import InputError
from tavr_records.ids import sha256_bytes

from tavr_lineage.git import git, read_file, repository_root
from tavr_lineage.policy import artifact_name
from tavr_lineage.registry import MOVES, list_versions, resolve_candidate
from tavr_lineage.trust.log import open_log


@dataclass(frozen=True)
class Standing:
    """What the registry says of a candidate.

    Attributes:
        versions: labels such as `v0.0.3`, oldest first.
        holds: stages that it holds now.
        held: stages that it ever held.
    """

    versions: tuple[str, ...] = ()
    holds: tuple[str, ...] = ()
    held: tuple[str, ...] = ()

    @property
    def promoted(self) -> bool:
        """Whether it holds a stage now."""
        return bool(self.holds)


@dataclass(frozen=True)
class Finished:
    """A finished run as git holds it."""

    commit: str
    record: dict[str, Any]
    record_sha256: str

    @property
    def run_id(self) -> str:
        """`YYYYMMDD-<8 hex>`."""
        return str(self.record["run"]["run_id"])


def open_finished(root: Path, name: str) -> Finished:
    """A finished run by run id, version, commit or anything git knows.

    Raises:
        InputError: no such run, or a commit without a record.
    """
    from tavr_lineage.record import RECORD, parse_record

    root = repository_root(root)
    commit = resolve_candidate(root, name, artifact_name(root))
    data = read_file(root, commit, RECORD)
    if data is None:
        raise InputError(f"{name}: commit {commit[:12]} carries no {RECORD}; name a finished run")
    return Finished(commit, parse_record(data, f"{commit[:12]}:{RECORD}"), sha256_bytes(data))


def candidate_commits(root: Path, artifact: str) -> list[str]:
    """Commits of all candidates, in the order of their ids: one a run branch, and those a version was given to."""
    listing = git(root, "for-each-ref", "--format=%(objectname)", "refs/heads/run", "refs/remotes/*/run")
    versions = {version.commit for version in list_versions(root, artifact)}
    return sorted({*listing.split(), *versions})


def read_record(root: Path, commit: str) -> dict[str, Any] | None:
    """The record a commit carries, None without one.

    Raises:
        InputError: a record of another schema version, or none at all under its name.
    """
    from tavr_lineage.record import RECORD, parse_record

    data = read_file(root, commit, RECORD)
    return None if data is None else parse_record(data, f"{commit[:12]}:{RECORD}")


def standings(root: Path, artifact: str) -> Mapping[str, Standing]:
    """The standing of every commit that has a version; others have none. Stages are what the log's trusted lines say.

    Raises:
        VerificationError: the log is broken.
    """
    labels: dict[str, list[str]] = {}
    for version in list_versions(root, artifact):
        labels.setdefault(version.commit, []).append(version.label)
    held: dict[str, set[str]] = {}
    holder: dict[str, str] = {}
    for entry in open_log(root).trusted():
        if entry["event"] in MOVES:
            held.setdefault(entry["commit"], set()).add(entry["target"])
            holder[entry["target"]] = entry["commit"]
    return {
        commit: Standing(
            tuple(names),
            tuple(sorted(stage for stage, at in holder.items() if at == commit)),
            tuple(sorted(held.get(commit, ()))),
        )
        for commit, names in labels.items()
    }
