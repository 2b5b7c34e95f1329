"""The gate, judged again from evidence alone: the policy, champion and approvals of then, not of today."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml
from tavr_records.errors import VerificationError
from tavr_records.ids import canonical_json, sha256_bytes

from tavr_lineage.case import JUDGES, REJECTED
from tavr_lineage.evidence.verification_content import judged_withdrawals
from tavr_lineage.evidence.verification_log import Promoted, log_before, read_canonical
from tavr_lineage.gate import Approval, Circumstances, Decision, judge
from tavr_lineage.policy import parse_policy
from tavr_lineage.registry import MOVES
from tavr_lineage.subjects import check_proof
from tavr_lineage.trust.allowed_signers import parse_signers
from tavr_lineage.trust.approvals import EVENT as APPROVED
from tavr_lineage.trust.approvals import collect_approvals
from tavr_lineage.trust.checkpoint import logged_checkpoints
from tavr_lineage.trust.log import Log
from tavr_lineage.trust.timestamp import parse_roots

Files = Mapping[str, bytes]
CHAMPION_PROOF = "champion_proof.json"
_FORM = " (form)"
_EXACT = 1e-9


@dataclass(frozen=True)
class Approvals:
    """Who said yes, and a reason for each yes that does not count."""

    good: Sequence[Approval]
    doubtful: Sequence[str]


def check_approvals(files: Files, promoted: Promoted) -> tuple[Approvals, str]:
    """Who said yes to this record and target before its promotion; a signed yes needs a key of `approvers`."""
    entry, present = promoted.entry, {name: sha256_bytes(files[name]) for name in JUDGES if name in files}
    if entry["judges"] != present:
        raise VerificationError(f"{', '.join(JUDGES)}: not those of the promotion")
    signers = parse_signers(files.get("approvers", b""), "approvers")
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
        withdrawn_champion=entry.get("withdrawn_champion"),
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
    told = [f"every rule of {target} holds", f"{', '.join(sorted(computed))} computed again", *decision.notes]
    told += [f"refused before, log line {one['seq']}: {'; '.join(one['reasons'])}" for one in _refusals(promoted)]
    return decision, "; ".join(told)


def _refusals(promoted: Promoted) -> list[Mapping[str, Any]]:
    record = promoted.entry["record_sha256"]
    return [one for one in promoted.before if one["event"] == "refused" and one["record_sha256"] == record]


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
    """The record of the version that held the target before, by the log; None when somebody in it had withdrawn."""
    moves = [entry for entry in promoted.before if entry["event"] in MOVES]
    held = [entry for entry in moves if entry["target"] == promoted.entry["target"]]
    if not held or held[-1]["commit"] == promoted.entry["commit"]:
        return None
    known = {entry["record_sha256"] for entry in moves if entry["commit"] == held[-1]["commit"]}
    if sha256_bytes(files["champion.json"]) not in known:
        raise VerificationError("champion.json: not the record of the version that held the stage")
    record, gone = read_canonical(files["champion.json"], "champion.json"), promoted.entry.get("withdrawn_champion")
    if gone is None:
        return record
    _check_withdrawn(files, promoted, record, gone)
    return None


def _check_withdrawn(files: Files, promoted: Promoted, champion: Mapping[str, Any], gone: Mapping[str, str]) -> None:
    """What the log says is withdrawn was in the champion, and on the list as it was judged."""
    proof, told = read_canonical(files[CHAMPION_PROOF], CHAMPION_PROOF), champion["consumption"]["subjects"]
    named = (proof["kind"], proof["value"], champion["run"]["run_id"])
    if named != (gone["kind"], gone["value"], gone["run"]):
        raise VerificationError(f"{CHAMPION_PROOF}: of another subject or champion than the log names")
    if not check_proof(proof, told["merkle_root"], told["size"]):
        raise VerificationError(f"{CHAMPION_PROOF}: proves that the champion did not use {gone['value']}")
    judged = judged_withdrawals(files["withdrawn.jsonl"], str(promoted.entry["withdrawn_sha256"]))
    if not any((line.kind, line.value, line.start_ms) == (gone["kind"], gone["value"], None) for line in judged):
        raise VerificationError(f"withdrawn.jsonl: {gone['value']} was not withdrawn when the champion was passed over")


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
