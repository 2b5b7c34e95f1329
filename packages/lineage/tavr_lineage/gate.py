"""The gate: a pure function from a record, the policy and today's circumstances to allow, or deny with every reason."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from tavr_records.ids import canonical_json, sha256_bytes

from tavr_lineage.intervals import paired_interval
from tavr_lineage.policy import Policy

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
        champion: record of the version that holds the target stage now, None when none does.
        withdrawn: clips of the candidate's ledger that have been withdrawn by now.
        mismatches: stored files that are missing or differ from the record, each as one line.
        approvals: for this candidate and target.
    """

    target: str
    champion: Record | None = None
    withdrawn: Sequence[str] = ()
    mismatches: Sequence[str] = ()
    approvals: Sequence[Approval] = ()


@dataclass(frozen=True)
class Decision:
    """`reasons` is empty exactly when `allow`; `rules` says of every rule whether it held."""

    allow: bool
    reasons: tuple[str, ...]
    rules: tuple[tuple[str, bool], ...]


def judge(record: Record, policy: Policy, circumstances: Circumstances) -> Decision:
    """Apply every rule; the decision lists all reasons, each starting with its rule's name."""
    rules: tuple[tuple[str, Callable[[Record, Policy, Circumstances], list[str]]], ...] = (
        ("target", _target_is_known),
        ("stages", _stages_are_done),
        ("checks", _checks_passed),
        ("benchmark", _beats_the_baseline),
        ("champion", _holds_against_the_champion),
        ("people", _nobody_is_in_both),
        ("withdrawal", _nothing_withdrawn),
        ("tree", _tree_is_clean),
        ("digests", _digests_match),
        ("licence", _licences_are_accepted),
        ("review", _pairs_were_reviewed),
        ("approval", _approvals_are_there),
    )
    found = [(name, rule(record, policy, circumstances)) for name, rule in rules]
    reasons = tuple(f"{name}: {reason}" for name, listed in found for reason in listed)
    return Decision(not reasons, reasons, tuple((name, not listed) for name, listed in found))


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


def _beats_the_baseline(record: Record, policy: Policy, now: Circumstances) -> list[str]:
    del now
    benchmark, rule = record["benchmark"], policy.benchmark
    if benchmark is None:
        return ["the candidate has no benchmark scores"]
    candidate, baseline = benchmark["metrics"]["candidate"], benchmark["metrics"]["baseline"]
    differences, unscored = _differences(benchmark["scores"], candidate, benchmark["scores"], baseline, rule.metric)
    reasons = [f"{candidate} or {baseline} has no {rule.metric} on pair {pair[:12]}" for pair in unscored]
    if len(differences) < rule.minimum_pairs:
        return [*reasons, f"{len(differences)} scored pairs, the policy wants {rule.minimum_pairs}"]
    low, high = paired_interval(differences, rule.confidence, rule.resamples)
    if not low > rule.minimum_difference:
        reasons.append(
            f"{rule.metric} of {candidate} minus {baseline} is not above {rule.minimum_difference:g}: "
            f"{100 * rule.confidence:g} % interval [{low:.4f}, {high:.4f}] over {len(differences)} pairs"
        )
    return reasons


def _holds_against_the_champion(record: Record, policy: Policy, now: Circumstances) -> list[str]:
    champion, benchmark, rule = now.champion, record["benchmark"], policy.benchmark
    if champion is None or benchmark is None or now.target not in policy.targets:
        return []
    if _profile(champion) != _profile(record):
        return []  # a model of another size is judged against its own kind
    run = champion["run"]["run_id"]
    theirs = champion["benchmark"]
    if theirs["metrics"].get("release") != benchmark["metrics"].get("release"):
        return [f"benchmark release differs from that of the champion (run {run}); score both on one release"]
    differences, unscored = _differences(
        benchmark["scores"],
        benchmark["metrics"]["candidate"],
        theirs["scores"],
        theirs["metrics"]["candidate"],
        rule.metric,
    )
    if unscored or len(differences) < rule.minimum_pairs:
        return [f"only {len(differences)} pairs scored in common with the champion (run {run})"]
    low, high = paired_interval(differences, rule.confidence, rule.resamples)
    wanted = policy.targets[now.target].champion
    if (low > 0) if wanted == "better" else (high >= 0):
        return []
    verdict = "not better" if wanted == "better" else "clearly worse"
    interval = f"difference [{low:.4f}, {high:.4f}] over {len(differences)} pairs"
    return [f"{rule.metric} is {verdict} than that of the champion (run {run}): {interval}"]


def _differences(
    ours: Mapping[str, Any], method: str, theirs: Mapping[str, Any], other: str, metric: str
) -> tuple[list[float], list[str]]:
    """Differences of `metric` over the pairs both have, in the order of pair ids, and the pairs without a score."""
    mine, yours = ours.get(method, {}), theirs.get(other, {})
    pairs = sorted(set(mine) & set(yours))
    unscored = [pair for pair in pairs if mine[pair][metric] is None or yours[pair][metric] is None]
    return [mine[pair][metric] - yours[pair][metric] for pair in pairs if pair not in unscored], unscored


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
    requester = record["run"]["requested_by"]
    approvers = {
        approval.approver
        for approval in now.approvals
        if approval.assurance in target.approval_assurance and approval.approver != requester
    }
    if len(approvers) >= target.approvals:
        return []
    kinds = " or ".join(target.approval_assurance)
    return [f"{len(approvers)} of {target.approvals} approvals ({kinds}, by someone other than the requester)"]
