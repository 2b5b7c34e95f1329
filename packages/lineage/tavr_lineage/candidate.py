"""A candidate is one commit on `run/<id>`: parameters, dvc.lock, reports, the record and its signatures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tavr_lineage.git import git
from tavr_lineage.record import RECORD, Run, StageOutcome, build_record, write_record
from tavr_lineage.trust.attest import ATTESTATION, write_attestation
from tavr_lineage.trust.custody import announce_model_key
from tavr_lineage.trust.keys import SigningKey
from tavr_lineage.trust.model_signature import MODEL_SIGNATURE, model_folder, model_key, sign_model

COMMITTED = ("params.yaml", "dvc.lock", "reports")
SEALED = (RECORD, ATTESTATION, MODEL_SIGNATURE)


@dataclass(frozen=True)
class Candidate:
    """A committed candidate and what pins it."""

    commit: str
    record: dict[str, Any]
    record_sha256: str
    attestation_sha256: str


def commit_candidate(worktree: Path, run: Run, key: SigningKey) -> Candidate:
    """Build the record from what lies in the worktree, sign it, and commit everything as the branch's next commit.

    The record names the git tree of the commit's files less itself and the signatures, so that none of them can be put
    beside other files.
    """
    record = build_record(worktree, run)
    git(worktree, "add", "--all", "--", *[path for path in COMMITTED if (worktree / path).exists()])
    tree = git(worktree, "write-tree")
    record["code"]["tree"] = tree
    record_sha256 = write_record(worktree, record)
    attestation_sha256 = write_attestation(worktree, record, record_sha256, key)
    _sign_model(worktree, record["params"])
    git(worktree, "add", "--force", "--", *[name for name in SEALED if (worktree / name).exists()])
    title = f"Run {run.run_id}: {_summary(run.stages)}"
    git(worktree, "commit", "--quiet", "--allow-empty", "-m", title, "-m", f"record-sha256: {record_sha256}")
    commit = git(worktree, "rev-parse", "HEAD")
    return Candidate(commit, record, record_sha256, attestation_sha256)


def tree_without_seal(root: Path, commit: str) -> str:
    """The git tree of a commit's files less the record and its signatures."""
    with TemporaryDirectory() as folder:
        index = {"GIT_INDEX_FILE": str(Path(folder) / "index")}
        git(root, "read-tree", commit, environment=index)
        git(root, "rm", "--cached", "--quiet", "--ignore-unmatch", "--", *SEALED, environment=index)
        return git(root, "write-tree", environment=index)


def _sign_model(worktree: Path, params: Mapping[str, Any]) -> None:
    """Sign the model the candidate is judged by; a run that ended before it was trained has nothing to sign."""
    folder = model_folder(params)
    if folder is None or not (worktree / folder).is_dir():
        (worktree / MODEL_SIGNATURE).unlink(missing_ok=True)  # of an earlier try in this worktree
        return
    key = model_key(worktree)
    sign_model(worktree / folder, worktree / MODEL_SIGNATURE, key)
    announce_model_key(worktree, key)


def _summary(stages: Sequence[StageOutcome]) -> str:
    counts: dict[str, int] = {}
    for stage in stages:
        counts[stage.state] = counts.get(stage.state, 0) + 1
    return ", ".join(f"{count} {state}" for state, count in sorted(counts.items())) or "nothing ran"
