"""The gate: a pure function from a record, the policy and today's circumstances to allow, or deny with every reason."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from tavr_records.ids import canonical_json, sha256_bytes

from tavr_lineage.comparison import Compared, Interval, compare
from tavr_lineage.policy import ASSURANCES, Policy
from tavr_lineage.trust.people import is_same_person

Record = Mapping[str, Any]
_FINISHED = ("done", "cached")


@dataclass(frozen=True)
class Approval:
    """One person's yes to one candidate for one target stage."""

    approver: str
    assurance: str


@dataclass(frozen=True)
class Circumstances:
    """What lies outside the record.

    Attributes:
        target: the stage the candidate asks for.
        champion: record of the version that holds the target stage now, None when none does or it is withdrawn.
        withdrawn_champion: run, kind and value: that version, and what in it is withdrawn, so that it is no bar.
        withdrawn: clips of the candidate's ledger that have been withdrawn by now.
        mismatches: stored files that are missing or differ from the record, each as one line.
        approvals: for this candidate and target, verified.
        doubtful_approvals: those that do not count, each as one line with the reason.
        rejection: why the candidate was rejected; "" when it was not.
        witnesses: who signed the log's newest checkpoint that pins all this rests on.
        stamped: whether a time stamp authority vouches for that checkpoint.
    """

    target: str
    champion: Record | None = None
    withdrawn_champion: Mapping[str, str] | None = None
    withdrawn: Sequence[str] = ()
    mismatches: Sequence[str] = ()
    approvals: Sequence[Approval] = ()
    doubtful_approvals: Sequence[str] = ()
    rejection: str = ""
    witnesses: Sequence[str] = ()
    stamped: bool = False


@dataclass(frozen=True)
class Decision:
    """`reasons` is empty exactly when `allow`; `rules` says of every rule whether it held.

    `intervals` holds what the rules `benchmark` and `champion` computed, where there was enough to compute; `notes`
    what a reader should know besides, one line each.
    """

    allow: bool
    reasons: tuple[str, ...]
    rules: tuple[tuple[str, bool], ...]
    intervals: Mapping[str, Interval] = field(default_factory=dict[str, Interval])
    notes: tuple[str, ...] = ()


def judge(record: Record, policy: Policy, circumstances: Circumstances) -> Decision:
    """Apply every rule; the decision lists all reasons, each starting with its rule's name."""
    baseline, champion = _against_baseline(record, policy), _against_champion(record, policy, circumstances)
    rules: tuple[tuple[str, Callable[[Record, Policy, Circumstances], list[str]]], ...] = (
        ("target", _target_is_known),
        ("stages", _stages_are_done),
        ("checks", _checks_passed),
        ("benchmark", lambda record, policy, _: _beats_the_baseline(record, policy, baseline)),
        ("champion", lambda record, policy, now: _holds_against_the_champion(record, policy, now, champion)),
        ("people", _nobody_is_in_both),
        ("withdrawal", _nothing_withdrawn),
        ("tree", _tree_is_clean),
        ("digests", _digests_match),
        ("licence", _licences_are_accepted),
        ("review", _pairs_were_reviewed),
        ("approval", _approvals_are_there),
        ("rejection", _nobody_rejected),
        ("witness", _log_is_witnessed),
    )
    found = [(name, rule(record, policy, circumstances)) for name, rule in rules]
    reasons = tuple(f"{name}: {reason}" for name, listed in found for reason in listed)
    held = tuple((name, not listed) for name, listed in found)
    compared = {"benchmark": baseline, "champion": champion}
    intervals = {name: one.interval for name, one in compared.items() if one is not None and one.interval is not None}
    gone = circumstances.withdrawn_champion
    notes = (f"champion {gone['run']} not compared: {gone['kind']} {gone['value']} in it is withdrawn",) if gone else ()
    return Decision(not reasons, reasons, held, intervals, notes)


def _target_is_known(record: Record, policy: Policy, now: Circumstances) -> list[str]:
    del record
    known = ", ".join(sorted(policy.targets))
    return [] if now.target in policy.targets else [f"no target stage {now.target!r} in the policy; it has {known}"]


def _stages_are_done(record: Record, policy: Policy, now: Circumstances) -> list[str]:
    del now
    states = {stage["name"]: stage for stage in record["stages"]}
    reasons: list[str] = []
    for name in policy.required_stages:
        stage = states.get(name, {"state": "not_run", "reason": ""})
        if stage["state"] not in _FINISHED:
            reasons.append(f"{name} is {stage['state']}" + (f" ({stage['reason']})" if stage["reason"] else ""))
    return reasons


def _checks_passed(record: Record, policy: Policy, now: Circumstances) -> list[str]:
    del now
    verdicts = record["verdicts"]
    reasons = [f"no verdict of check_{stage}" for stage in policy.required_checks if stage not in verdicts]
    for stage, verdict in sorted(verdicts.items()):
        # Judged from the single checks: the summary flag alone could be wrong.
        reasons += [
            f"check_{stage}: {check['id']} failed (observed {check['observed']}, limit {check['limit']})"
            for check in verdict["checks"]
            if check["severity"] == "critical" and not check["passed"]
        ]
    return reasons


def _against_baseline(record: Record, policy: Policy) -> Compared | None:
    benchmark = record["benchmark"]
    if benchmark is None:
        return None
    metrics, scores = benchmark["metrics"], benchmark["scores"]
    return compare(scores, metrics["candidate"], scores, metrics["baseline"], policy.benchmark)


def _beats_the_baseline(record: Record, policy: Policy, compared: Compared | None) -> list[str]:
    rule = policy.benchmark
    if compared is None:
        return ["the candidate has no benchmark scores"]
    candidate, baseline = record["benchmark"]["metrics"]["candidate"], record["benchmark"]["metrics"]["baseline"]
    reasons = [f"{candidate} or {baseline} has no {rule.metric} on pair {pair[:12]}" for pair in compared.unscored]
    if compared.interval is None:
        return [*reasons, f"{compared.pairs} scored pairs, the policy wants {rule.minimum_pairs}"]
    if not compared.interval.low > rule.minimum_difference:
        reasons.append(
            f"{rule.metric} of {candidate} minus {baseline} is not above {rule.minimum_difference:g}: "
            f"{100 * rule.confidence:g} % interval {compared.interval}"
        )
    return reasons


def _against_champion(record: Record, policy: Policy, now: Circumstances) -> Compared | None:
    """None where there is nothing to compare with; a model of another size is judged against its own kind."""
    champion, ours = now.champion, record["benchmark"]
    if champion is None or ours is None or now.target not in policy.targets or _profile(champion) != _profile(record):
        return None
    theirs = champion["benchmark"]
    if _release(champion) != _release(record):
        return Compared(None, 0, ())
    return compare(
        ours["scores"], ours["metrics"]["candidate"], theirs["scores"], theirs["metrics"]["candidate"], policy.benchmark
    )


def _holds_against_the_champion(
    record: Record, policy: Policy, now: Circumstances, compared: Compared | None
) -> list[str]:
    if compared is None or now.champion is None:
        return []
    run, metric = now.champion["run"]["run_id"], policy.benchmark.metric
    if _release(now.champion) != _release(record):
        return [f"benchmark release differs from that of the champion (run {run}); score both on one release"]
    if compared.interval is None or compared.unscored:
        return [f"only {compared.pairs} pairs scored in common with the champion (run {run})"]
    wanted = policy.targets[now.target].champion
    if (compared.interval.low > 0) if wanted == "better" else (compared.interval.high >= 0):
        return []
    verdict = "not better" if wanted == "better" else "clearly worse"
    return [f"{metric} is {verdict} than that of the champion (run {run}): difference {compared.interval}"]


def _release(record: Record) -> Any:
    """Of the benchmark: models are only compared on the same one."""
    return record["benchmark"]["metrics"].get("release")


def _profile(record: Record) -> Any:
    return record["params"].get("_compose", {}).get("profile")


def _nobody_is_in_both(record: Record, policy: Policy, now: Circumstances) -> list[str]:
    del policy, now
    return [
        f"person {person[:12]} is in a training ledger and in the benchmark" for person in record["people"]["in_both"]
    ]


def _nothing_withdrawn(record: Record, policy: Policy, now: Circumstances) -> list[str]:
    del policy
    clips = sorted({*record["consumption"]["withdrawn_clips"], *now.withdrawn})
    reasons = [f"withdrawn clip {clip[:12]} is in a training ledger" for clip in clips]
    return reasons + [
        f"clip {clip[:12]} of a training ledger is unknown to ingest" for clip in record["consumption"]["unknown_clips"]
    ]


def _tree_is_clean(record: Record, policy: Policy, now: Circumstances) -> list[str]:
    del policy, now
    if not record["code"]["dirty"]:
        return []
    return ["the run's files differed from its commit: " + ", ".join(record["code"]["dirty_paths"])]


def _digests_match(record: Record, policy: Policy, now: Circumstances) -> list[str]:
    del policy
    reasons = list(now.mismatches)
    if sha256_bytes(canonical_json(record["params"])) != record["params_sha256"]:
        reasons.append("params and params_sha256 of the record disagree")
    if record["environment"]["lock_sha256"] is None:
        reasons.append("the run had no requirements.lock")
    if not any("/model/" in path for path in record["outputs"]):
        reasons.append("the record names no trained model file")
    return reasons


def _licences_are_accepted(record: Record, policy: Policy, now: Circumstances) -> list[str]:
    if now.target not in policy.targets:
        return []
    accepted = set(policy.targets[now.target].licences)
    return [
        f"{now.target} does not accept {licence or 'an empty licence'} ({count} {thing})"
        for kind, thing in (("data", "clips"), ("weights", "weight files"))
        for licence, count in sorted(record["licences"][kind].items())
        if licence not in accepted
    ]


def _pairs_were_reviewed(record: Record, policy: Policy, now: Circumstances) -> list[str]:
    if now.target not in policy.targets:
        return []
    patterns = [*policy.targets[now.target].reviews, *policy.profile_reviews.get(_profile(record) or "", [])]
    reasons: list[str] = []
    for row in record["reviews"]:
        if row["split"] not in policy.reviewed_splits or row["review"] == "rejected":
            continue
        who = f"{row['reviewer']}/{row['assurance']}"
        if row["review"] != "accepted":
            reasons.append(f"{row['pairs']} {row['split']} pairs are {row['review']}")
        elif not any(fnmatchcase(who, pattern) for pattern in patterns):
            reasons.append(f"{row['pairs']} {row['split']} pairs were accepted by {who}, which {now.target} does not")
    return reasons


def _approvals_are_there(record: Record, policy: Policy, now: Circumstances) -> list[str]:
    if now.target not in policy.targets:
        return []
    target = policy.targets[now.target]
    least = min((ASSURANCES.index(kind) for kind in target.approval_assurance), default=0)
    requester = record["run"]["requested_by"]
    approvers: list[str] = []
    for approval in now.approvals:
        enough = approval.assurance in ASSURANCES and ASSURANCES.index(approval.assurance) >= least
        if enough and not any(is_same_person(approval.approver, other) for other in (requester, *approvers)):
            approvers.append(approval.approver)
    if len(approvers) >= target.approvals:
        return []
    kinds = " or ".join(ASSURANCES[least:])
    wanted = f"{len(approvers)} of {target.approvals} approvals ({kinds}, by someone other than the requester)"
    return [wanted, *(f"not counted: {reason}" for reason in now.doubtful_approvals)]


def _nobody_rejected(record: Record, policy: Policy, now: Circumstances) -> list[str]:
    del record, policy
    return [now.rejection] if now.rejection else []


def _log_is_witnessed(record: Record, policy: Policy, now: Circumstances) -> list[str]:
    del record
    if now.target not in policy.targets:
        return []
    target, reasons = policy.targets[now.target], list[str]()
    if len(now.witnesses) < target.witnesses:
        reasons.append(
            f"{len(now.witnesses)} of {target.witnesses} witnesses signed a checkpoint that pins the approvals and the "
            f"stage's history; see `tavr checkpoint`"
        )
    if target.timestamp and not now.stamped:
        reasons.append("no time-stamped checkpoint pins the approvals and the stage's history; see `tavr checkpoint`")
    return reasons
