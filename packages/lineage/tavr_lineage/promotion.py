"""Promotion and rollback: the gate's answer, two signed tags, one line in the audit log. Nothing else moves a model."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tavr_records.errors import InputError, RefusedError
from tavr_records.ids import sha256_bytes
from tavr_records.withdrawals import read_withdrawals

from tavr_lineage.attest import ATTESTATION
from tavr_lineage.candidate import tree_without_seal
from tavr_lineage.clock import now
from tavr_lineage.closure import find_withdrawn_clips, parse_consumption
from tavr_lineage.gate import Approval, Circumstances, Decision, judge
from tavr_lineage.git import git, main_checkout, read_file, repository_root, resolve
from tavr_lineage.keys import signing_key
from tavr_lineage.log import append
from tavr_lineage.outputs import find_mismatches
from tavr_lineage.policy import POLICY, Policy, parse_policy
from tavr_lineage.record import RECORD, parse_record
from tavr_lineage.registry import (
    Version,
    assign,
    find_version,
    holder,
    list_assignments,
    list_versions,
    register,
    tag_facts,
)


@dataclass(frozen=True)
class Case:
    """A candidate before the gate, with everything the decision was made on."""

    commit: str
    target: str
    record: dict[str, Any]
    record_sha256: str
    policy: Policy
    policy_sha256: str
    decision: Decision


@dataclass(frozen=True)
class Promotion:
    """A version that now holds a target stage."""

    version: str
    target: str
    commit: str
    tags: tuple[str, str]
    record_sha256: str
    key: str


def open_case(root: Path, candidate: str, target: str, approvals: Sequence[Approval] = ()) -> Case:
    """Judge a candidate (run id, version, branch or commit) for a target stage as things stand today.

    Raises:
        InputError: no such candidate, or it carries no record; the policy has uncommitted changes.
    """
    root = repository_root(root)
    policy, policy_sha256 = _committed_policy(root)
    commit = resolve_candidate(root, candidate, policy.artifact)
    data = read_file(root, commit, RECORD)
    if data is None:
        raise InputError(f"{candidate}: commit {commit[:12]} carries no {RECORD}; name a finished run")
    record = parse_record(data, f"{commit[:12]}:{RECORD}")
    mismatches = find_mismatches(root, commit, record, main_checkout(root) / ".dvc/cache")
    if tree_without_seal(root, commit) != record["code"]["tree"]:
        mismatches.append("the commit's files are not the tree the record names")
    used = parse_consumption(read_file(root, commit, record["consumption"]["path"]))
    circumstances = Circumstances(
        target=target,
        champion=_champion(root, policy, target, commit),
        withdrawn=find_withdrawn_clips(used, read_withdrawals(root / "audit/withdrawn.jsonl")),
        mismatches=mismatches,
        approvals=approvals,
    )
    decision = judge(record, policy, circumstances)
    return Case(commit, target, record, sha256_bytes(data), policy, policy_sha256, decision)


def promote(root: Path, candidate: str, target: str, approvals: Sequence[Approval] = ()) -> Promotion:
    """Judge, and on allow register the commit's version and let it hold `target`; either way the log says so.

    Raises:
        RefusedError: the gate said no; the message lists every reason.
        InputError: as `open_case`.
    """
    return promote_case(root, open_case(root, candidate, target, approvals), approvals)


def promote_case(root: Path, case: Case, approvals: Sequence[Approval] = ()) -> Promotion:
    """As `promote`, for a case that is already judged.

    Raises:
        RefusedError: the gate said no; the message lists every reason.
    """
    root, target = repository_root(root), case.target
    if not case.decision.allow:
        log_refusal(root, case, approvals)
        raise RefusedError(refusal(case))
    key = signing_key(root)
    facts = _facts(root, case, approvals)
    attestation = read_file(root, case.commit, ATTESTATION)
    told = {
        "record-sha256": case.record_sha256,
        "attestation-sha256": sha256_bytes(attestation) if attestation is not None else "none",
        "policy-sha256": case.policy_sha256,
        "run": case.record["run"]["run_id"],
    }
    version = register(root, case.policy.artifact, case.commit, told, key)
    tag = assign(root, version, target, told, key)
    append(root, "promoted", now(), {**facts, "version": version.label, "tags": [version.name, tag]})
    return Promotion(version.label, target, case.commit, (version.name, tag), case.record_sha256, key.fingerprint)


def log_refusal(root: Path, case: Case, approvals: Sequence[Approval] = ()) -> None:
    """Write the gate's no, with every reason, to the log."""
    root = repository_root(root)
    append(root, "refused", now(), {**_facts(root, case, approvals), "reasons": list(case.decision.reasons)})


def _facts(root: Path, case: Case, approvals: Sequence[Approval]) -> dict[str, Any]:
    """What the log says of a decision."""
    key = signing_key(root)
    return {
        "run": case.record["run"]["run_id"],
        "target": case.target,
        "commit": case.commit,
        "record_sha256": case.record_sha256,
        "policy_sha256": case.policy_sha256,
        "approvals": [f"{approval.approver} ({approval.assurance})" for approval in approvals],
        "actor": actor(root),
        "key": key.fingerprint,
        "public_key": key.public,
    }


def rollback(root: Path, target: str, label: str, reason: str) -> Promotion:
    """Let an earlier version that once held `target` hold it again, by one more signed tag.

    Raises:
        InputError: no such version, or it never held the stage.
    """
    root = repository_root(root)
    policy, policy_sha256 = _committed_policy(root)
    version = find_version(root, policy.artifact, label)
    if version.commit not in _once_held(root, policy.artifact, target):
        raise InputError(f"{version.label} never held {target}; promote it instead (`tavr promote {version.label}`)")
    data = read_file(root, version.commit, RECORD)
    told = {
        "record-sha256": sha256_bytes(data or b""),
        "policy-sha256": policy_sha256,
        "reason": " ".join(reason.split()),
    }
    key = signing_key(root)
    tag = assign(root, version, target, told, key)
    facts = {"target": target, "commit": version.commit, "actor": actor(root), "key": key.fingerprint, "reason": reason}
    append(root, "rolled back", now(), {**facts, "version": version.label, "tags": [tag]})
    return Promotion(version.label, target, version.commit, (version.name, tag), told["record-sha256"], key.fingerprint)


def resolve_candidate(root: Path, name: str, artifact: str) -> str:
    """The commit of a run id, a version label or anything git knows."""
    if any(name == version.label for version in list_versions(root, artifact)):
        return find_version(root, artifact, name).commit
    try:
        return resolve(root, f"run/{name}")
    except InputError:
        return resolve(root, name)


def refusal(case: Case) -> str:
    """The refusal as text: one reason a line."""
    lines = [f"  - {reason}" for reason in case.decision.reasons]
    return "\n".join([f"the gate refuses {case.record['run']['run_id']} for {case.target}:", *lines])


def actor(root: Path) -> str:
    """Who acts, as git knows it: `name <email>`."""
    return git(root, "var", "GIT_COMMITTER_IDENT").rsplit(" ", 2)[0]


def _committed_policy(root: Path) -> tuple[Policy, str]:
    data = read_file(root, "HEAD", str(POLICY))
    if data is None:
        raise InputError(f"{root / POLICY}: not in git; the gate judges by a committed policy only")
    if (root / POLICY).read_bytes() != data:
        raise InputError(f"{root / POLICY}: has uncommitted changes; commit or undo them")
    return parse_policy(data, str(root / POLICY)), sha256_bytes(data)


def _champion(root: Path, policy: Policy, target: str, commit: str) -> dict[str, Any] | None:
    """The record of the version that holds the target now, unless that is the candidate itself."""
    version: Version | None = holder(root, policy.artifact, target)
    if version is None or version.commit == commit:
        return None
    data = read_file(root, version.commit, RECORD)
    if data is None or sha256_bytes(data) != tag_facts(root, version.name).get("record-sha256"):
        raise InputError(f"{version.name}: its commit's {RECORD} is not the one its tag names; the registry is damaged")
    return parse_record(data, version.name)


def _once_held(root: Path, artifact: str, target: str) -> set[str]:
    return {assignment.commit for assignment in list_assignments(root, artifact) if assignment.stage == target}
