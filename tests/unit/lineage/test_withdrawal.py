"""Tombstones, affected models and their remedy, and how long it took: on a small checkout with real runs."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tavr_lineage.evidence.collect import Asked, verify_release
from tavr_lineage.policy import parse_policy
from tavr_lineage.promotion import open_case, promote
from tavr_lineage.trust.log import append, read_log
from tavr_lineage.withdrawal import letter
from tavr_lineage.withdrawal.affected import find_affected, pulls, rerun_from
from tavr_lineage.withdrawal.compliance import compliance_times
from tavr_lineage.withdrawal.footprint import Footprint
from tavr_lineage.withdrawal.inventory import KINDS, kind_of
from tavr_lineage.withdrawal.letter import Means, answer
from tavr_lineage.withdrawal.tombstones import Request, withdraw
from tavr_records.errors import InputError, RefusedError
from tavr_records.manifest import write_manifest
from tavr_records.schemas import ClipPair, Consumed, Source
from tavr_records.withdrawals import KINDS as TOMBSTONES
from tavr_records.withdrawals import Withdrawal, find_withdrawn, read_withdrawals
from tavr_records.withdrawn_faces import WithdrawnFace, read_withdrawn_faces

from .conftest import CLIPS, PAIRS, Finish, git

FIRST, SECOND = "20260101-00000001", "20260301-00000002"
AT = "2026-02-01T00:00:00Z"
WHY = "a letter of 2026-02-01"


def lines(root: Path) -> list[Withdrawal]:
    return read_withdrawals(root / "audit/withdrawn.jsonl")


def without(number: int) -> Callable[[Path], None]:
    """A run whose ledgers, pairs and scores are free of one of the two trained people."""
    gone = {clip.clip_id for clip in CLIPS if clip.person_id == f"person{number}"}

    def spoil(tree: Path) -> None:
        for stage in ("stage1", "stage2", "stage3"):
            kept = [clip.clip_id for clip in CLIPS[:4] if clip.clip_id not in gone]
            rows = [Consumed(stage, step, 0, kept, "target0", "ref0", True, "") for step in range(3)]
            write_manifest(tree / "data" / stage / "ledger.parquet", Consumed, rows, ("step", "slot"))

    return spoil


def test_a_person_is_blocked_by_id_clip_section_and_own_bytes(finish: Finish, checkout: Path) -> None:
    finish(FIRST)
    before = git(checkout, "rev-parse", "HEAD")
    (checkout / "conf/other.yaml").write_text("a: 1\n")
    git(checkout, "add", "conf/other.yaml")
    found = withdraw(checkout, Request("person", "person1", WHY), AT)
    mine = [clip for clip in CLIPS if clip.person_id == "person1"]
    told = {(line.kind, line.value, line.start_ms, line.end_ms) for line in lines(checkout)}
    assert told == {
        ("person_id", "person1", None, None),
        *(("clip_id", clip.clip_id, None, None) for clip in mine),
        *(("source_key", clip.source_key, 0, 1000) for clip in mine),
        *(("sha256", clip.clip_sha256, None, None) for clip in mine),
    }, "the bytes of the source are everybody's in this world, so they block nobody"
    assert found.clips == tuple(sorted(clip.clip_id for clip in mine))
    assert find_withdrawn([vars(clip) for clip in CLIPS], lines(checkout)) == [2, 3]
    assert git(checkout, "rev-parse", "HEAD^") == before
    assert git(checkout, "show", "--stat", "--format=", "HEAD").split("|")[0].strip() == "audit/withdrawn.jsonl"
    assert git(checkout, "status", "--porcelain", "--", "conf", "audit") == "A  conf/other.yaml", "staged work stays so"
    entry = read_log(checkout)[-1]
    assert (entry["event"], entry["kind"], entry["value"], entry["at"]) == ("withdrawn", "person_id", "person1", AT)
    assert entry["commit"] == found.commit


def test_asking_again_changes_nothing(finish: Finish, checkout: Path) -> None:
    finish(FIRST)
    first = withdraw(checkout, Request("person", "person1", WHY), AT)
    again = withdraw(checkout, Request("person", "person1", "another letter"), "2026-02-09T00:00:00Z")
    assert again.added == 0
    assert (again.lines, again.seq, again.withdrawn_at) == (first.lines, first.seq, AT)
    assert git(checkout, "rev-parse", "HEAD") == first.commit
    assert [entry["event"] for entry in read_log(checkout)].count("withdrawn") == 1


def test_a_withdrawal_that_ended_before_its_log_line_is_finished(
    finish: Finish, checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish(FIRST)

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("tavr_lineage.withdrawal.tombstones.append", stop)
        with pytest.raises(KeyboardInterrupt):
            withdraw(checkout, Request("person", "person1", WHY), AT)
    assert [entry["event"] for entry in read_log(checkout) if entry["event"] == "withdrawn"] == []
    withdraw(checkout, Request("person", "person1", WHY), "2026-02-02T00:00:00Z")
    (entry,) = [entry for entry in read_log(checkout) if entry["event"] == "withdrawn"]
    assert entry["at"] == AT, "the letter came when the tombstones were written"


def test_a_section_of_a_source(finish: Finish, checkout: Path) -> None:
    finish(FIRST)
    found = withdraw(checkout, Request("source", CLIPS[0].source_key, WHY, 900, 2000), AT)
    assert found.clips == (CLIPS[0].clip_id,)
    with pytest.raises(InputError, match="no snapshot, clip or ledger here names it"):
        withdraw(checkout, Request("source", CLIPS[1].source_key, WHY, 1000, 2000), AT)
    found = withdraw(checkout, Request("source", CLIPS[1].source_key, WHY, 1000, 2000, unknown=True), AT)
    assert (found.clips, found.added) == ((), 1)


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (Request("person", "person77", WHY), r"--person person77: no snapshot, clip or ledger here names it"),
        (Request("person", "person1", " "), "may not be empty"),
        (Request("source", "", WHY), "may not be empty"),
        (Request("clip", "x", WHY, 0, 5), "narrows a source, not a clip"),
        (Request("source", "r1", WHY, 5, 5), "give 0 <= START < END"),
        (Request("source", "r1", WHY, 5), "give both START and END"),
        (Request("dog", "r1", WHY), "withdraw a clip, a person or a source"),
    ],
)
def test_nonsense_is_refused_and_writes_nothing(
    finish: Finish, checkout: Path, request_: Request, message: str
) -> None:
    finish(FIRST)
    head = git(checkout, "rev-parse", "HEAD")
    with pytest.raises(InputError, match=message):
        withdraw(checkout, request_, AT)
    assert git(checkout, "rev-parse", "HEAD") == head
    assert lines(checkout) == []


def test_a_file_with_open_changes_is_not_touched(finish: Finish, checkout: Path) -> None:
    finish(FIRST)
    path = checkout / "audit/withdrawn.jsonl"
    path.write_text("\n")
    with pytest.raises(InputError, match=r"withdrawn.jsonl: has changes that are not committed"):
        withdraw(checkout, Request("person", "person1", WHY), AT)
    assert path.read_text() == "\n"


def test_a_deployed_model_is_flagged_with_its_retrain_ready(finish: Finish, checkout: Path) -> None:
    candidate = finish(FIRST)
    promote(checkout, FIRST, "dev")
    found = answer(checkout, Request("person", "person1", WHY), do_purge=False)
    (one,) = found.affected
    assert (one.commit, one.versions, one.stages) == (candidate.commit, ("v0.0.1",), ("dev",))
    assert (dict(one.used), one.trained) == ({"stage1": 2, "stage2": 2, "stage3": 2}, True)
    assert one.remedy.action == "retrain"
    assert one.remedy.from_stage == "pairs", "this world has no snapshot, so ingest's check is the first to see it"
    assert one.remedy.command.startswith("tavr retrain --profile tiny --reason 'successor of run 20260101-00000001")
    assert one.remedy.parameters["profile"] == "tiny"
    assert found.holders["dev"]["version"] == "v0.0.1"
    assert any("withdrawn clip" in reason for reason in found.holders["dev"]["reasons"])
    assert any("withdrawn clip" in reason for reason in one.gate["dev"])
    assert found.purged is None


def test_a_candidate_that_nobody_uses_is_blocked_and_an_unaffected_one_is_left_alone(
    finish: Finish, checkout: Path
) -> None:
    finish(FIRST)
    finish(SECOND, spoil=without(1))
    found = answer(checkout, Request("person", "person1", WHY), do_purge=False)
    (one,) = found.affected
    assert (one.run_id, one.remedy.action) == (FIRST, "block")
    assert open_case(checkout, SECOND, "dev").decision.allow


def test_receipts_of_pulls_make_a_model_deployed(finish: Finish, checkout: Path) -> None:
    candidate = finish(FIRST)
    promote(checkout, FIRST, "dev")
    finish(SECOND, gain=0.4)
    promote(checkout, SECOND, "dev")
    append(checkout, "pulled", AT, {"version": "v0.0.1", "host": "avatar-host"})
    assert pulls(checkout, candidate.commit, ("v0.0.1",)) == ("avatar-host",)
    found = {
        one.run_id: one for one in find_affected(checkout, [Withdrawal("person_id", "person1", WHY, AT)], judge=False)
    }
    assert (found[FIRST].stages, found[FIRST].pulled, found[FIRST].remedy.action) == ((), ("avatar-host",), "retrain")


def test_the_earliest_stage_is_the_one_dvc_runs_again(finish: Finish, checkout: Path) -> None:
    def snapshot(tree: Path) -> None:
        rows = [
            Source(c.record_id, c.source_key, "0" * 64, "media/x.mp4", 0, 1000, c.rights, "2026-01-01", "metadata.json")
            for c in CLIPS
        ]
        write_manifest(tree / "data/sources/manifest.parquet", Source, rows, ("record_id",))

    candidate = finish(FIRST, spoil=snapshot)
    assert rerun_from(checkout, candidate.commit, [Withdrawal("person_id", "person1", WHY, AT)]) == "pairs"
    assert rerun_from(checkout, candidate.commit, [Withdrawal("clip_id", CLIPS[2].clip_id, WHY, AT)]) == "sources"
    assert rerun_from(checkout, candidate.commit, [Withdrawal("source_key", "r2", WHY, AT, 0, 1)]) == "sources"
    assert rerun_from(checkout, candidate.commit, [Withdrawal("clip_id", "nobody", WHY, AT)]) == "sources"


def test_clips_of_the_same_face_under_another_label_are_shown_to_a_human(finish: Finish, checkout: Path) -> None:
    def joined(tree: Path) -> None:
        path = tree / "data/pairs/clips.parquet"
        from tavr_records.schemas import ClipSplit

        rows = [ClipSplit(c.clip_id, c.person_id, "i-person0", "train") for c in CLIPS]
        write_manifest(path, ClipSplit, rows, ("clip_id",))
        write_manifest(
            tree / "data/pairs/manifest.parquet",
            ClipPair,
            [replace(p, identity="i-person0") for p in PAIRS],
            ("pair_id",),
        )

    finish(FIRST, spoil=joined)
    found = answer(checkout, Request("person", "person1", WHY), do_purge=False)
    assert {CLIPS[0].clip_id, CLIPS[1].clip_id} <= set(found.related)
    assert not {CLIPS[2].clip_id, CLIPS[3].clip_id} & set(found.related)
    assert find_withdrawn([vars(clip) for clip in CLIPS], lines(checkout)) == [2, 3], "nothing was done to them"


def test_the_time_to_a_compliant_candidate_is_on_the_record(
    finish: Finish, checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    later = "2999-02-01T00:00:00Z"  # the log dates no line before the one above it
    finish(FIRST)
    promote(checkout, FIRST, "dev")
    monkeypatch.setattr(letter, "now", lambda: later)
    answer(checkout, Request("person", "person1", WHY), do_purge=False)
    (waiting,) = compliance_times(checkout)
    assert (waiting.withdrawn_at, waiting.seconds_to_candidate, waiting.seconds_to_promotion) == (later, None, None)
    late = {"started_at": "2999-02-01T01:00:00Z", "finished_at": "2999-02-01T02:00:00Z"}
    finish(SECOND, gain=0.4, spoil=without(1), **late)
    promote(checkout, SECOND, "dev")
    (done,) = compliance_times(checkout)
    assert (done.candidate, done.seconds_to_candidate) == (SECOND, 7200)
    assert done.promoted_at == read_log(checkout)[-1]["at"]
    assert done.seconds_to_promotion is not None


def test_a_champion_in_which_somebody_withdrew_is_no_bar_for_its_successor(finish: Finish, checkout: Path) -> None:
    finish(FIRST, gain=0.5)
    promote(checkout, FIRST, "dev")
    finish(SECOND, gain=0.3, spoil=without(1))
    with pytest.raises(RefusedError, match="clearly worse than that of the champion"):
        promote(checkout, SECOND, "dev")
    withdraw(checkout, Request("person", "person1", WHY), AT)
    assert promote(checkout, SECOND, "dev").version == "v0.0.2"
    gone = read_log(checkout)[-1]["withdrawn_champion"]
    assert gone == {"run": FIRST, "kind": "person_id", "value": "person1"}
    found = verify_release(checkout, "v0.0.2", Asked())
    assert found.state == "verified", found


def test_a_candidate_that_still_holds_it_is_not_compliant(
    finish: Finish, checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish(FIRST)
    monkeypatch.setattr(letter, "now", lambda: AT)
    answer(checkout, Request("person", "person1", WHY), do_purge=False)
    finish(SECOND, finished_at="2026-02-01T02:00:00Z")
    (one,) = compliance_times(checkout)
    assert one.candidate == ""


def test_the_face_is_kept_only_where_policy_permits(finish: Finish, checkout: Path) -> None:
    finish(FIRST)
    asked: list[tuple[str, ...]] = []

    def face_of(root: Path, clips: tuple[str, ...], least: float, at: str) -> WithdrawnFace:
        asked.append(tuple(clips))
        return WithdrawnFace("ab" * 256, "n" * 64, least, at)

    (checkout / "audit/withdrawn_faces.jsonl").touch()
    git(checkout, "add", "-A", "audit")
    git(checkout, "-c", "user.name=t", "-c", "user.email=t@t", "commit", "--quiet", "-m", "faces")
    means = Means(face_of=face_of)
    assert not answer(checkout, Request("person", "person0", WHY), do_purge=False, means=means).face_kept
    assert asked == []
    path = checkout / "conf/policy.yaml"
    path.write_text(path.read_text().replace("enabled: false", "enabled: true"))
    git(checkout, "-c", "user.name=t", "-c", "user.email=t@t", "commit", "--quiet", "-am", "policy")
    assert answer(checkout, Request("person", "person1", WHY), do_purge=True, means=means).face_kept
    assert asked == [tuple(sorted(clip.clip_id for clip in CLIPS[2:4]))]
    (kept,) = read_withdrawn_faces(checkout / "audit/withdrawn_faces.jsonl")
    assert kept.least_similarity == 0.6
    assert git(checkout, "status", "--porcelain", "--", "audit") == ""
    from tavr_lineage.withdrawal.certificate import read_certificates

    (statement,) = read_certificates(checkout).values()
    assert [block["path"] for block in statement["block"]] == ["audit/withdrawn.jsonl", "audit/withdrawn_faces.jsonl"]


def test_policy_must_decide_every_kind_and_give_reasons(root: Path) -> None:
    values = yaml.safe_load((root / "conf/policy.yaml").read_text())
    del values["withdrawal"]["purge"]["footage"]
    with pytest.raises(InputError, match="footage missing or unknown"):
        parse_policy(json.dumps(values).encode(), "policy")
    values["withdrawal"]["purge"]["footage"] = False
    with pytest.raises(InputError, match=r"keep_reasons.footage: no reason"):
        parse_policy(json.dumps(values).encode(), "policy")
    values["withdrawal"]["keep_reasons"]["footage"] = "x"
    values["withdrawal"]["face_match"]["least_similarity"] = 0
    with pytest.raises(InputError, match="least_similarity is 0"):
        parse_policy(json.dumps(values).encode(), "policy")


HEX = st.text("0123456789abcdef", min_size=64, max_size=64)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(HEX, HEX, st.text(max_size=20), st.text(max_size=20))
def test_an_id_is_found_in_any_text_whole_or_shortened(name: str, other: str, before: str, after: str) -> None:
    found = Footprint((), {}, frozenset({name}))
    around = before.translate(str.maketrans("0123456789abcdef", "x" * 16)), after
    assert found.named_in(f"{around[0]} {name} {around[1]}")
    assert found.named_in(f"{around[0]} {name[:12]} {around[1]}")
    assert found.named_in(other) == (other[:12] == name[:12])


@pytest.mark.parametrize(
    ("text", "found"),
    [("media/a.1.mp4", True), ("<li>a.1</li>", True), ("media/a.12.mp4", False), ("xa.1", False), ("a.1.b", False)],
)
def test_a_record_name_is_found_as_a_whole(text: str, found: bool) -> None:
    assert Footprint((), {}, frozenset({"a.1"})).named_in(text) is found


def test_every_tombstone_kind_is_one_the_request_can_write() -> None:
    assert {Request(kind, "x", "y").subject["kind"] for kind in ("clip", "person", "source")} <= set(TOMBSTONES)
    assert kind_of("data/unheard-of/x") == "unknown"
    assert "unknown" in KINDS
