"""The gate: each broken input is refused with its own reason, and all reasons are listed."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tavr_lineage.gate import Approval, Circumstances, Decision, judge
from tavr_lineage.policy import parse_policy, read_policy
from tavr_records.errors import InputError
from tavr_records.ids import canonical_json, sha256_bytes

from .conftest import CHECKED, ORDER, scores

Record = dict[str, Any]
DEV = Circumstances(target="dev")


def fair_record(gain: float = 0.3) -> Record:
    """A record that every rule allows for dev."""
    params = {"_compose": {"profile": "tiny", "overrides": []}}
    by_method: Record = {}
    for row in scores(gain):
        by_method.setdefault(row.method, {})[row.pair_id] = {"id_target": row.id_target}
    return {
        "run": {"run_id": "20260101-00000001", "requested_by": "t <t@t>"},
        "code": {"dirty": False, "dirty_paths": []},
        "environment": {"lock_sha256": "c" * 64},
        "params": params,
        "params_sha256": sha256_bytes(canonical_json(params)),
        "stages": [{"name": name, "state": "done", "reason": ""} for name in ORDER],
        "outputs": {"data/stage3/model/model.safetensors": "d" * 64},
        "consumption": {"withdrawn_clips": [], "unknown_clips": []},
        "benchmark": {
            "metrics": {"candidate": "ours", "baseline": "base", "release": "r1"},
            "scores": by_method,
        },
        "people": {"in_both": []},
        "reviews": [
            {"split": "benchmark", "review": "accepted", "reviewer": "ground-truth", "assurance": "automatic", "pairs": 4},
            {"split": "benchmark", "review": "rejected", "reviewer": "nobody", "assurance": "none", "pairs": 1},
            {"split": "train", "review": "pending", "reviewer": "", "assurance": "", "pairs": 9},
        ],
        "verdicts": {
            stage: {
                "critical": False,
                "checks": [
                    {"id": "rows", "severity": "critical", "passed": True, "observed": 6, "limit": 1},
                    {"id": "dover", "severity": "warning", "passed": False, "observed": 1, "limit": 7},
                ],
            }
            for stage in CHECKED
        },
        "licences": {"data": {"Apache-2.0": 4}, "weights": {"Apache-2.0": 3, "AGPL-3.0-only": 1}},
    }  # fmt: skip


def decide(root: Path, record: Record, now: Circumstances = DEV) -> Decision:
    return judge(record, read_policy(root / "conf/policy.yaml"), now)


def test_a_fair_candidate_is_allowed(root: Path) -> None:
    decision = decide(root, fair_record())
    assert decision.reasons == ()
    assert decision.allow
    assert all(held for _, held in decision.rules)


def failed_check(record: Record) -> None:
    record["verdicts"]["pairs"]["checks"].append(
        {"id": "people_in_both_splits", "severity": "critical", "passed": False, "observed": 1, "limit": 0}
    )  # the summary flag still says not critical: the single checks count


def worse_scores(record: Record) -> None:
    record["benchmark"]["scores"]["ours"] = record["benchmark"]["scores"]["base"]


def unscored_pair(record: Record) -> None:
    pair = min(record["benchmark"]["scores"]["ours"])
    record["benchmark"]["scores"]["ours"][pair] = {"id_target": None}


BROKEN: list[tuple[Callable[[Record], Any], str]] = [
    (lambda r: r["stages"].pop(9), "stages: stage1 is not_run"),
    (
        lambda r: r["stages"][9].update(state="refused", reason="pairs: people_in_both_splits"),
        "stages: stage1 is refused (pairs: people_in_both_splits)",
    ),
    (lambda r: r["verdicts"].pop("latents"), "checks: no verdict of check_latents"),
    (failed_check, "checks: check_pairs: people_in_both_splits failed (observed 1, limit 0)"),
    (lambda r: r.update(benchmark=None), "benchmark: the candidate has no benchmark scores"),
    (worse_scores, "benchmark: id_target of ours minus base is not above 0: 95 % interval [0.0000, 0.0000] over 4 pairs"),
    (unscored_pair, "benchmark: ours or base has no id_target on pair r"),
    (lambda r: r["benchmark"]["scores"]["ours"].popitem(), "benchmark: 3 scored pairs, the policy wants 4"),
    (lambda r: r["people"].update(in_both=["p" * 64]), "people: person pppppppppppp is in a training ledger and in the"),
    (lambda r: r["consumption"].update(withdrawn_clips=["c" * 64]), "withdrawal: withdrawn clip cccccccccccc is in a"),
    (lambda r: r["consumption"].update(unknown_clips=["e" * 64]), "withdrawal: clip eeeeeeeeeeee of a training ledger"),
    (
        lambda r: r["code"].update(dirty=True, dirty_paths=["packages/x.py"]),
        "tree: the run's files differed from its commit: packages/x.py",
    ),
    (lambda r: r["params"].update(extra=1), "digests: params and params_sha256 of the record disagree"),
    (lambda r: r["environment"].update(lock_sha256=None), "digests: the run had no requirements.lock"),
    (lambda r: r.update(outputs={}), "digests: the record names no trained model file"),
    (lambda r: r["licences"]["data"].update({"LicenseRef-secret": 2}), "licence: dev does not accept LicenseRef-secret"),
    (lambda r: r["licences"]["weights"].update({"": 2}), "licence: dev does not accept an empty licence (2 weight"),
    (lambda r: r["reviews"][0].update(review="pending"), "review: 4 benchmark pairs are pending"),
    (
        lambda r: r["reviews"][0].update(reviewer="anna", assurance="none"),
        "review: 4 benchmark pairs were accepted by anna/none, which dev does not",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("spoil", "reason"), BROKEN, ids=[reason[:48] for _, reason in BROKEN])
def test_a_broken_candidate_is_refused_with_its_reason(root: Path, spoil: Callable[[Record], Any], reason: str) -> None:
    record = fair_record()
    spoil(record)
    decision = decide(root, record)
    assert not decision.allow
    assert [told for told in decision.reasons if told.startswith(reason)], decision.reasons
    rule = reason.split(":", maxsplit=1)[0]
    assert (rule, False) in decision.rules


def test_every_reason_is_listed_at_once(root: Path) -> None:
    record = fair_record()
    for spoil, _ in BROKEN:
        try:
            spoil(record)
        except (TypeError, KeyError):  # an earlier one took away what this one spoils
            continue
    rules = {reason.split(":")[0] for reason in decide(root, record).reasons}
    assert rules == {"stages", "checks", "benchmark", "people", "withdrawal", "tree", "digests", "licence", "review"}


def test_the_gate_does_not_change_what_it_judges(root: Path) -> None:
    record = fair_record()
    before = copy.deepcopy(record)
    assert decide(root, record) == decide(root, record)
    assert record == before


def test_self_review_is_for_the_embedded_world_only(root: Path) -> None:
    record = fair_record()
    record["params"]["_compose"]["profile"] = "wan-14b"
    record["params_sha256"] = sha256_bytes(canonical_json(record["params"]))
    assert decide(root, record).reasons == (
        "review: 4 benchmark pairs were accepted by ground-truth/automatic, which dev does not",
    )
    record["reviews"][0].update(reviewer="anna", assurance="form")
    assert decide(root, record).allow


def test_what_is_known_today_counts_too(root: Path) -> None:
    now = Circumstances(
        "dev", withdrawn=["f" * 64], mismatches=["data/stage3/model/x differs from the record's sha256"]
    )
    assert decide(root, fair_record(), now).reasons == (
        "withdrawal: withdrawn clip ffffffffffff is in a training ledger",
        "digests: data/stage3/model/x differs from the record's sha256",
    )


def test_an_unknown_target_is_refused(root: Path) -> None:
    assert decide(root, fair_record(), Circumstances("moon")).reasons == (
        "target: no target stage 'moon' in the policy; it has dev, prod, staging",
    )


def test_approvals_must_be_enough_assured_and_somebody_elses(root: Path) -> None:
    def reasons(*approvals: Approval) -> list[str]:
        decision = decide(root, fair_record(), Circumstances("staging", approvals=approvals))
        return [reason for reason in decision.reasons if reason.startswith("approval")]

    refused = ["approval: 0 of 1 approvals (form or ssh-signed, by someone other than the requester)"]
    assert reasons() == refused
    assert reasons(Approval("t <t@t>", "form")) == refused
    assert reasons(Approval("anna", "hearsay")) == refused
    assert reasons(Approval("anna", "form")) == []
    assert reasons(Approval("anna@x", "ssh-signed")) == [], "a signature is more than a form asks for"
    assert reasons(Approval("T@T", "ssh-signed")) == refused, "the requester by email, in another case"


def test_one_person_is_one_approval_and_doubtful_ones_are_told(root: Path) -> None:
    text = (root / "conf/policy.yaml").read_text().replace("approvals: 1", "approvals: 2")
    policy = parse_policy(text.encode(), "here")

    def reasons(target: str, *approvals: Approval) -> tuple[str, ...]:
        now = Circumstances(target, approvals=approvals, doubtful_approvals=["line 7: eve: no key"])
        found = judge(fair_record(), policy, now).reasons
        return tuple(reason for reason in found if reason.startswith("approval"))

    twice = (Approval("anna@x", "ssh-signed"), Approval("Anna <ANNA@x>", "form"))
    assert reasons("staging", *twice) == (
        "approval: 1 of 2 approvals (form or ssh-signed, by someone other than the requester)",
        "approval: not counted: line 7: eve: no key",
    )
    assert reasons("staging", *twice, Approval("bert@x", "form")) == ()
    assert reasons("prod", *twice, Approval("bert@x", "form"))[0].startswith(
        "approval: 1 of 2 approvals (ssh-signed, by"
    )


def test_rejection_witnesses_and_time_stamps_are_rules(root: Path) -> None:
    text = (
        (root / "conf/policy.yaml")
        .read_text()
        .replace("witnesses: 0", "witnesses: 1")
        .replace("timestamp: false", "timestamp: true")
    )
    policy = parse_policy(text.encode(), "here")
    refused = judge(fair_record(), policy, Circumstances("dev", rejection="rejected by bert: blurred"))
    assert [reason.split(":")[0] for reason in refused.reasons] == ["rejection", "witness", "witness"]
    assert refused.reasons[0] == "rejection: rejected by bert: blurred"
    assert judge(fair_record(), policy, Circumstances("dev", witnesses=["wanda@x"], stamped=True)).allow


def test_the_decision_holds_the_intervals_it_was_made_by(root: Path) -> None:
    decision = decide(root, fair_record(0.4), Circumstances("dev", champion=fair_record(0.3)))
    assert set(decision.intervals) == {"benchmark", "champion"}
    champion = decision.intervals["champion"].facts()
    assert (champion["metric"], champion["pairs"], round(champion["mean"], 6)) == ("id_target", 4, 0.1)
    assert decide(root, {**fair_record(), "benchmark": None}).intervals == {}


def test_the_champion_must_not_be_clearly_better(root: Path) -> None:
    def reasons(ours: float, theirs: float, target: str = "dev") -> list[str]:
        now = Circumstances(target, champion=fair_record(theirs))
        return [reason for reason in decide(root, fair_record(ours), now).reasons if reason.startswith("champion")]

    assert reasons(0.3, 0.3) == []
    assert reasons(0.4, 0.3) == []
    assert reasons(0.2, 0.3)[0].startswith("champion: id_target is clearly worse than that of the champion (run 2026")
    assert reasons(0.3, 0.3, "prod")[0].startswith("champion: id_target is not better than that of the champion")
    assert reasons(0.4, 0.3, "prod") == []


def test_a_champion_of_another_release_or_profile(root: Path) -> None:
    champion = fair_record(0.9)
    champion["benchmark"]["metrics"]["release"] = "r2"
    (reason,) = decide(root, fair_record(), Circumstances("dev", champion=champion)).reasons
    assert reason.startswith("champion: benchmark release differs")
    champion["params"]["_compose"]["profile"] = "small"
    assert decide(root, fair_record(), Circumstances("dev", champion=champion)).allow


def test_the_policy_is_read_strictly(root: Path) -> None:
    text = (root / "conf/policy.yaml").read_text()
    with pytest.raises(InputError, match=r"here.*minimum_pears"):
        parse_policy(text.replace("minimum_pairs", "minimum_pears").encode(), "here")
    with pytest.raises(InputError, match=r"here.*approvals"):
        parse_policy(text.replace("approvals: 0", "approvals: none").encode(), "here")
    with pytest.raises(InputError, match="champion is 'best'"):
        parse_policy(text.replace("champion: better", "champion: best").encode(), "here")
    for changed, message in (
        (
            "approval_assurance: [form, ssh-signed]",
            r"staging.approval_assurance holds 'hearsay'; use form or ssh-signed",
        ),
        ("witnesses: 0", "dev.witnesses is -1; use 0 or more"),
        ("approval_assurance: [ssh-signed]", "prod.approval_assurance is empty"),
    ):
        spoilt = {
            "approval_assurance: [form, ssh-signed]": "approval_assurance: [hearsay]",
            "witnesses: 0": "witnesses: -1",
        }
        put = spoilt.get(changed, "approval_assurance: []")
        with pytest.raises(InputError, match=message):
            parse_policy(text.replace(changed, put).encode(), "here")
    with pytest.raises(InputError, match="no such file"):
        read_policy(root / "conf/missing.yaml")
