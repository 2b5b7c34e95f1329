"""Promotion, rollback, rejection and approval: the gate's answer, signed tags, a line of the audit log each.

Nothing else moves a model.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tavr_records.errors import InputError, RefusedError, VerificationError
from tavr_records.ids import sha256_bytes

from tavr_lineage.candidates import open_finished
from tavr_lineage.case import (
    REJECTED,
    Case,
    committed_judges,
    committed_policy,
    open_case,
    rejection,
    withdrawn_clips,
)
from tavr_lineage.clock import now
from tavr_lineage.gate import Approval
from tavr_lineage.git import git, read_file, repository_root
from tavr_lineage.registry import MOVES, Version, assign, check_move, find_version, register
from tavr_lineage.trust.allowed_signers import APPROVERS, read_signers
from tavr_lineage.trust.approvals import EVENT as APPROVED
from tavr_lineage.trust.approvals import SignedApproval, verify_approval
from tavr_lineage.trust.attest import ATTESTATION
from tavr_lineage.trust.keys import signing_key
from tavr_lineage.trust.log import Log, append, check_signer, open_log


@dataclass(frozen=True)
class Promotion:
    """A version that now holds a target stage."""

    version: str
    target: str
    commit: str
    tags: tuple[str, str]
    record_sha256: str
    key: str


def promote(root: Path, candidate: str, target: str, approvals: Sequence[Approval] = ()) -> Promotion:
    """Judge, and on allow register the commit's version and let it hold `target`; either way the log says so.

    Raises:
        RefusedError: the gate said no; the message lists every reason.
        InputError, VerificationError: as `open_case`.
    """
    return promote_case(root, open_case(root, candidate, target, approvals))


def promote_case(root: Path, case: Case) -> Promotion:
    """As `promote`, for a case that is already judged.

    Raises:
        RefusedError: the gate said no; the message lists every reason.
        InputError: our key may not sign the log, or somebody else made the same tag at the same time.
    """
    root, target = repository_root(root), case.target
    if not case.decision.allow:
        log_refusal(root, case)
        raise RefusedError(refusal(case))
    key = signing_key(root)
    check_signer(open_log(root), key)  # before the first tag: a tag without a line of the log moves nothing
    facts = _facts(root, case)
    told = {
        "record-sha256": case.record_sha256,
        "attestation-sha256": facts["attestation_sha256"],
        "policy-sha256": case.policy_sha256,
        "run": facts["run"],
    }
    version = register(root, case.policy.artifact, case.commit, told, key)
    tag = assign(root, version, target, told, key)
    append(root, "promoted", now(), {**facts, "version": version.label, "tags": [version.name, tag]})
    return Promotion(version.label, target, case.commit, (version.name, tag), case.record_sha256, key.fingerprint)


def log_refusal(root: Path, case: Case) -> None:
    """Write the gate's no, with every reason, to the log."""
    root = repository_root(root)
    append(root, "refused", now(), {**_facts(root, case), "reasons": list(case.decision.reasons)})


def rollback(root: Path, target: str, label: str, reason: str) -> Promotion:
    """Let an earlier version that once held `target` hold it again, by one more signed tag.

    Raises:
        InputError: no such version, or it never held the stage.
        RefusedError: it was rejected, or somebody in it has withdrawn: it never holds a stage again.
        VerificationError: the log or the version's tags are damaged.
    """
    root = repository_root(root)
    committed, log = committed_policy(root), open_log(root)
    version = find_version(root, committed.policy.artifact, label)
    found = open_finished(root, version.name)
    _check_held(root, log, version, target)
    facts = {
        "run": found.run_id,
        "target": target,
        "commit": version.commit,
        "record_sha256": found.record_sha256,
        "reason": " ".join(reason.split()),
        "version": version.label,
        "actor": actor(root),
    }
    reasons = [
        f"withdrawal: withdrawn clip {clip[:12]} is in it"
        for clip in withdrawn_clips(root, version.commit, found.record)
    ]
    reasons += [f"rejection: {told}" for told in (rejection(log, found.record_sha256),) if told]
    if reasons:
        append(root, "refused", now(), {**facts, "reasons": reasons})
        listed = "\n".join(f"  - {one}" for one in reasons)
        raise RefusedError(f"{version.label} can never hold {target} again:\n{listed}")
    told = {"record-sha256": found.record_sha256, "policy-sha256": committed.sha256, "reason": facts["reason"]}
    key = signing_key(root)
    check_signer(log, key)
    tag = assign(root, version, target, told, key)
    append(root, "rolled back", now(), {**facts, "tags": [tag]})
    return Promotion(version.label, target, version.commit, (version.name, tag), found.record_sha256, key.fingerprint)


def reject(root: Path, candidate: str, reason: str) -> dict[str, Any]:
    """Say no to a candidate for good; returns the log's entry. The stages it holds it keeps until rolled back.

    Raises:
        InputError: no such candidate, no reason, or it is rejected already.
    """
    root = repository_root(root)
    found = open_finished(root, candidate)
    if not reason.strip():
        raise InputError("--reason: empty; say why, for the record")
    if told := rejection(open_log(root), found.record_sha256):
        raise InputError(f"{candidate}: already {told}")
    facts = {"run": found.run_id, "commit": found.commit, "record_sha256": found.record_sha256, "actor": actor(root)}
    return append(root, REJECTED, now(), {**facts, "reason": " ".join(reason.split())})


def approve(root: Path, candidate: str, target: str, signed: SignedApproval) -> dict[str, Any]:
    """Verify a signed approval and write it to the log; returns the entry.

    Raises:
        InputError: no such candidate or target.
        RefusedError: it is for another record or target, of nobody who may, or the requester's own; says which.
    """
    root = repository_root(root)
    policy = committed_policy(root).policy
    if target not in policy.targets:
        raise InputError(f"--to {target!r}: no target of the policy; it has {', '.join(sorted(policy.targets))}")
    found = open_finished(root, candidate)
    requester = found.record["run"]["requested_by"]
    try:
        given = verify_approval(signed, found.record_sha256, target, requester, read_signers(root, APPROVERS))
    except VerificationError as error:
        raise RefusedError(f"approval: {error}") from error
    facts = {"run": found.run_id, "target": target, "record_sha256": found.record_sha256}
    facts |= {"approver": given.approver, "assurance": given.assurance}
    return append(root, APPROVED, now(), {**facts, "payload": signed.payload, "approval_signature": signed.signature})


def refusal(case: Case) -> str:
    """The refusal as text: one reason a line."""
    lines = [f"  - {reason}" for reason in case.decision.reasons]
    return "\n".join([f"the gate refuses {case.record['run']['run_id']} for {case.target}:", *lines])


def actor(root: Path) -> str:
    """Who acts, as git knows it: `name <email>`."""
    return git(root, "var", "GIT_COMMITTER_IDENT").rsplit(" ", 2)[0]


def _facts(root: Path, case: Case) -> dict[str, Any]:
    """What the log says of a decision."""
    attestation = read_file(root, case.commit, ATTESTATION)
    approvals, gone = case.circumstances.approvals, case.circumstances.withdrawn_champion
    return {
        **({"withdrawn_champion": dict(gone)} if gone else {}),
        "run": case.record["run"]["run_id"],
        "target": case.target,
        "commit": case.commit,
        "record_sha256": case.record_sha256,
        "attestation_sha256": sha256_bytes(attestation) if attestation is not None else "none",
        "policy_sha256": case.policy_sha256,
        "policy_json_sha256": case.policy_json_sha256,
        "withdrawn_sha256": case.withdrawn_sha256,
        "judges": committed_judges(root),
        "approvals": [f"{approval.approver} ({approval.assurance})" for approval in approvals],
        "intervals": {rule: interval.facts() for rule, interval in sorted(case.decision.intervals.items())},
        "actor": actor(root),
    }


def _check_held(root: Path, log: Log, version: Version, target: str) -> None:
    """Refuse a version that the log never let hold a stage, or whose tags are not what the log says."""
    held = [
        entry
        for entry in log.trusted()
        if entry["event"] in MOVES and entry["target"] == target and entry["version"] == version.label
    ]
    if not held:
        raise InputError(f"{version.label} never held {target}; promote it instead (`tavr promote {version.label}`)")
    check_move(root, log, held[-1])
    if held[-1]["commit"] != version.commit:
        raise VerificationError(f"tag {version.name}: was moved; the log says {held[-1]['commit'][:12]}")
