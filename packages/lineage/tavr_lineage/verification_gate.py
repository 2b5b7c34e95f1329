"""The gate, judged again from evidence alone: the policy, champion and approvals of then, not of today."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml
from tavr_records.errors import VerificationError
from tavr_records.ids import canonical_json, sha256_bytes

from tavr_lineage.allowed_signers import parse_signers
from tavr_lineage.approvals import EVENT as APPROVED
from tavr_lineage.approvals import collect_approvals
from tavr_lineage.case import REJECTED
from tavr_lineage.checkpoint import logged_checkpoints
from tavr_lineage.gate import Approval, Circumstances, Decision, judge
from tavr_lineage.log import Log
from tavr_lineage.policy import parse_policy
from tavr_lineage.registry import MOVES
from tavr_lineage.timestamp import parse_roots
from tavr_lineage.verification_log import Promoted, log_before, read_canonical

Files = Mapping[str, bytes]
_FORM = " (form)"
_EXACT = 1e-9


@dataclass(frozen=True)
class Approvals:
    """Who said yes, and a reason for each yes that does not count."""

    good: Sequence[Approval]
    doubtful: Sequence[str]


def check_approvals(files: Files, promoted: Promoted) -> tuple[Approvals, str]:
    """Who said yes to this record and target before its promotion; a signed yes needs a key of `approvers`."""
    entry, signers = promoted.entry, parse_signers(files.get("approvers", b""), "approvers")
    good, doubtful = collect_approvals(
        promoted.before, promoted.record, str(entry["record_sha256"]), str(entry["target"]), signers
    )
    typed = [Approval(who.removesuffix(_FORM), "form") for who in entry["approvals"] if who.endswith(_FORM)]
    told = [f"{one.approver} ({one.assurance})" for one in (*good, *typed)]
    return Approvals((*good, *typed), doubtful), ", ".join([*told, *doubtful]) or "none"


def check_gate(files: Files, promoted: Promoted, approvals: Approvals) -> tuple[Decision, str]:
    """The policy is the one of the promotion, every rule holds, and the intervals are the logged ones."""
    entry, target = promoted.entry, str(promoted.entry["target"])
    if sha256_bytes(files["policy.json"]) != entry["policy_json_sha256"]:
        raise VerificationError("policy.json: not the policy that was judged by")
    if sha256_bytes(files["policy.yaml"]) != entry["policy_sha256"]:
        raise VerificationError("policy.yaml: not the policy that was judged by")
    if canonical_json(yaml.safe_load(files["policy.yaml"])) != files["policy.json"]:
        raise VerificationError("policy.json: says something else than policy.yaml")
    policy = parse_policy(files["policy.yaml"], "policy.yaml")
    witnesses, stamped = _witnessed(files, promoted)
    circumstances = Circumstances(
        target=target,
        champion=_champion(files, promoted),
        approvals=approvals.good,
        doubtful_approvals=approvals.doubtful,
        rejection=_rejection(promoted),
        witnesses=witnesses,
        stamped=stamped,
    )
    decision = judge(promoted.record, policy, circumstances)
    if not decision.allow:
        raise VerificationError("; ".join(decision.reasons))
    computed = {name: interval.facts() for name, interval in decision.intervals.items()}
    _compare(computed, entry["intervals"])
    return decision, f"every rule of {target} holds; {', '.join(sorted(computed))} computed again"


def _compare(computed: Mapping[str, Mapping[str, Any]], logged: Mapping[str, Mapping[str, Any]]) -> None:
    """The logged intervals are those that the record's scores give."""
    if set(computed) != set(logged):
        raise VerificationError(f"intervals: the log has {', '.join(logged)}, the record gives {', '.join(computed)}")
    for name, interval in computed.items():
        for fact, value in interval.items():
            told = logged[name][fact]
            if told != value and not (isinstance(value, float) and abs(told - value) <= _EXACT):
                raise VerificationError(
                    f"{name}: the logged interval is not one of these scores ({fact} {told} for {value})"
                )


def _champion(files: Files, promoted: Promoted) -> Mapping[str, Any] | None:
    """The record of the version that held the target before, by the log."""
    moves = [entry for entry in promoted.before if entry["event"] in MOVES]
    held = [entry for entry in moves if entry["target"] == promoted.entry["target"]]
    if not held or held[-1]["commit"] == promoted.entry["commit"]:
        return None
    known = {entry["record_sha256"] for entry in moves if entry["commit"] == held[-1]["commit"]}
    if sha256_bytes(files["champion.json"]) not in known:
        raise VerificationError("champion.json: not the record of the version that held the stage")
    return read_canonical(files["champion.json"], "champion.json")


def _rejection(promoted: Promoted) -> str:
    about = [
        e for e in promoted.before if e["event"] == REJECTED and e["record_sha256"] == promoted.entry["record_sha256"]
    ]
    return f"rejected at {about[0]['at']}: {about[0]['reason']}" if about else ""


def _witnessed(files: Files, promoted: Promoted) -> tuple[list[str], bool]:
    """Who had signed checkpoints that pin what the promotion rests on, and whether one was stamped."""
    log: Log = log_before(promoted)
    signers = parse_signers(files.get("witnesses", b""), "witnesses")
    roots = parse_roots(files.get("timestamp-roots.pem", b""), "timestamp-roots.pem")
    about = [
        entry["seq"]
        for entry in promoted.before
        if (entry["event"] in (APPROVED, REJECTED) and entry["record_sha256"] == promoted.entry["record_sha256"])
        or (entry["event"] in MOVES and entry["target"] == promoted.entry["target"])
    ]
    size = max(about, default=0)
    pinning = [one for one in logged_checkpoints(log, promoted.artifact, signers, roots) if one.head.size >= size]
    return sorted({who for one in pinning for who in one.witnesses}), any(one.stamped_at for one in pinning)
