"""A candidate before the gate: everything the decision is made on, gathered as things stand today."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from tavr_records.errors import InputError, VerificationError
from tavr_records.ids import canonical_json, sha256_bytes
from tavr_records.withdrawals import read_withdrawals

from tavr_lineage.candidate import tree_without_seal
from tavr_lineage.candidates import Finished, open_finished
from tavr_lineage.closure import find_withdrawn_clips, find_withdrawn_subject, read_consumption
from tavr_lineage.gate import Approval, Circumstances, Decision, judge
from tavr_lineage.git import main_checkout, read_file, repository_root
from tavr_lineage.outputs import find_mismatches
from tavr_lineage.policy import POLICY, Policy, parse_policy
from tavr_lineage.record import RECORD, parse_record
from tavr_lineage.registry import MOVES, holder, tag_facts
from tavr_lineage.trust.allowed_signers import APPROVERS, WITNESSES, read_signers
from tavr_lineage.trust.approvals import EVENT as APPROVED
from tavr_lineage.trust.approvals import collect_approvals
from tavr_lineage.trust.attest import ATTESTATION, open_sealed
from tavr_lineage.trust.checkpoint import logged_checkpoints
from tavr_lineage.trust.keys import PublicKey, SigningKey, signing_key
from tavr_lineage.trust.log import Log, open_log
from tavr_lineage.trust.model_signature import MODEL_SIGNATURE, check_model_signature, model_folder
from tavr_lineage.trust.timestamp import ROOTS, read_roots

WITHDRAWN = "audit/withdrawn.jsonl"
JUDGES = {"approvers": APPROVERS, "witnesses": WITNESSES, "timestamp-roots.pem": ROOTS}
"""Whose signatures count: for each name in the evidence, the committed file."""
REJECTED = "rejected"


@dataclass(frozen=True)
class CommittedPolicy:
    """The policy at HEAD, the sha256 of its file, and of the canonical JSON of what the file says."""

    policy: Policy
    sha256: str
    json_sha256: str


@dataclass(frozen=True)
class Case:
    """A candidate before the gate, with everything the decision was made on.

    Attributes:
        withdrawn_sha256: of `audit/withdrawn.jsonl` as it was judged.
    """

    commit: str
    target: str
    record: dict[str, Any]
    record_sha256: str
    policy: Policy
    policy_sha256: str
    policy_json_sha256: str
    withdrawn_sha256: str
    circumstances: Circumstances
    decision: Decision


def open_case(root: Path, candidate: str, target: str, approvals: Sequence[Approval] = ()) -> Case:
    """Judge a candidate (run id, version, branch or commit) for a target stage as things stand today.

    Args:
        root: any folder of the checkout.
        candidate: what `open_finished` takes.
        target: the stage it asks for.
        approvals: besides the signed ones, which the log holds.

    Raises:
        InputError: no such candidate, or it carries no record; the policy has uncommitted changes.
        VerificationError: the log or the registry is damaged.
    """
    root = repository_root(root)
    committed, log = committed_policy(root), open_log(root)
    policy = committed.policy
    found = open_finished(root, candidate)
    signed, doubtful = collect_approvals(
        log.trusted(), found.record, found.record_sha256, target, read_signers(root, APPROVERS)
    )
    witnesses, stamped = _witnessed(root, log, policy.artifact, _rests_on(log, found.record_sha256, target))
    champion, gone = _champion(root, policy, target, found.commit)
    circumstances = Circumstances(
        target=target,
        champion=None if gone else champion,
        withdrawn_champion=gone,
        withdrawn=withdrawn_clips(root, found.commit, found.record),
        mismatches=_mismatches(root, found, log),
        approvals=(*signed, *approvals),
        doubtful_approvals=doubtful,
        rejection=rejection(log, found.record_sha256),
        witnesses=witnesses,
        stamped=stamped,
    )
    return Case(
        commit=found.commit,
        target=target,
        record=found.record,
        record_sha256=found.record_sha256,
        policy=policy,
        policy_sha256=committed.sha256,
        policy_json_sha256=committed.json_sha256,
        withdrawn_sha256=sha256_bytes((root / WITHDRAWN).read_bytes()),
        circumstances=circumstances,
        decision=judge(found.record, policy, circumstances),
    )


def committed_policy(root: Path) -> CommittedPolicy:
    """The policy as it is committed.

    Raises:
        InputError: it is not in git, or has uncommitted changes.
    """
    data = read_file(root, "HEAD", str(POLICY))
    if data is None:
        raise InputError(f"{root / POLICY}: not in git; the gate judges by a committed policy only")
    if (root / POLICY).read_bytes() != data:
        raise InputError(f"{root / POLICY}: has uncommitted changes; commit or undo them")
    policy = parse_policy(data, str(root / POLICY))
    return CommittedPolicy(policy, sha256_bytes(data), sha256_bytes(canonical_json(yaml.safe_load(data))))


def committed_judges(root: Path) -> dict[str, str]:
    """sha256 of each file of `JUDGES` that is committed, by its name in the evidence."""
    found = {name: read_file(root, "HEAD", path) for name, path in JUDGES.items()}
    return {name: sha256_bytes(data) for name, data in found.items() if data is not None}


def withdrawn_clips(root: Path, commit: str, record: Mapping[str, Any]) -> list[str]:
    """Clips that went into a candidate and are withdrawn by now, sorted.

    Raises:
        InputError: its consumption table is not the one its record names.
    """
    return find_withdrawn_clips(read_consumption(root, commit, record), read_withdrawals(root / WITHDRAWN))


def rejection(log: Log, record_sha256: str) -> str:
    """Who rejected a candidate, when and why; "" when nobody did."""
    for entry in log.trusted():
        if entry["event"] == REJECTED and entry["record_sha256"] == record_sha256:
            return f"rejected by {entry['actor']} at {entry['at']}: {entry['reason']}"
    return ""


def _mismatches(root: Path, found: Finished, log: Log) -> list[str]:
    """Whatever is not as the record says, or not signed by a key of the log."""
    mismatches = find_mismatches(root, found.commit, found.record, main_checkout(root) / ".dvc/cache")
    if tree_without_seal(root, found.commit) != found.record["code"]["tree"]:
        mismatches.append("the commit's files are not the tree the record names")
    return [*mismatches, *_seal_problems(root, found, log)]


def _seal_problems(root: Path, found: Finished, log: Log) -> list[str]:
    """What is wrong with the attestation and the model's signature; before the log's first line, our key counts."""
    problems: list[str] = []
    keys: list[PublicKey | SigningKey] = [*log.keyring.believed()] if log.entries else [signing_key(root)]
    try:
        sealed = open_sealed(read_file(root, found.commit, ATTESTATION) or b"", keys, ATTESTATION)
        if {"name": RECORD, "digest": {"sha256": found.record_sha256}} not in json.loads(sealed)["subject"]:
            problems.append(f"{ATTESTATION} attests another record")
    except InputError as error:
        problems.append(str(error))
    signature, folder = read_file(root, found.commit, MODEL_SIGNATURE), model_folder(found.record["params"])
    if signature is not None and folder is not None:
        outputs = found.record["outputs"].items()
        files = {path.removeprefix(f"{folder}/"): digest for path, digest in outputs if path.startswith(f"{folder}/")}
        try:
            check_model_signature(signature, files, log.keyring.believed("model"))
        except VerificationError as error:
            problems.append(str(error))
    return problems


def _champion(
    root: Path, policy: Policy, target: str, commit: str
) -> tuple[dict[str, Any] | None, dict[str, str] | None]:
    """The record of the version that holds the target now, unless that is the candidate; what in it is withdrawn."""
    version = holder(root, policy.artifact, target)
    if version is None or version.commit == commit:
        return None, None
    data = read_file(root, version.commit, RECORD)
    if data is None or sha256_bytes(data) != tag_facts(root, version.name).get("record-sha256"):
        raise VerificationError(f"{version.name}: its commit's {RECORD} is not the one its tag names")
    record = parse_record(data, version.name)
    withdrawals = read_withdrawals(root / WITHDRAWN)
    subject = find_withdrawn_subject(read_consumption(root, version.commit, record), withdrawals)
    if subject is None:
        return record, None
    return record, {"run": str(record["run"]["run_id"]), "kind": subject[0], "value": subject[1]}


def _rests_on(log: Log, record_sha256: str, target: str) -> int:
    """The last line that a promotion rests on: the candidate's approvals, and the stage's history."""
    about = (
        entry["seq"]
        for entry in log.trusted()
        if (entry["event"] in (APPROVED, REJECTED) and entry["record_sha256"] == record_sha256)
        or (entry["event"] in MOVES and entry["target"] == target)
    )
    return max(about, default=0)


def _witnessed(root: Path, log: Log, artifact: str, size: int) -> tuple[list[str], bool]:
    """Who signed checkpoints that pin the first `size` lines, and whether one of those is stamped."""
    signers, roots = read_signers(root, WITNESSES), read_roots(root)
    pinning = [one for one in logged_checkpoints(log, artifact, signers, roots) if one.head.size >= size]
    return sorted({who for one in pinning for who in one.witnesses}), any(one.stamped_at for one in pinning)
