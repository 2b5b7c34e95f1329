"""Attacks of an operator, who holds the signing key and lies; and of a thief of that key."""

import re
from collections.abc import Callable
from pathlib import Path

from attack import THIEF, WITHDRAWAL, Attack, relogged
from evidence_world import LATE, Json, Key, World, checkpoint
from tavr_records.ids import sha256_bytes


def rewritten_after_a_checkpoint(tmp: Path) -> Attack:
    world = World(after=[(World().key, "rejected", {"record_sha256": "0" * 64, "reason": "bad"})])
    honest = world.files()
    kept = checkpoint(honest["log.jsonl"], world.key)

    def forget(entries: list[tuple[Key, str, Json]]) -> None:
        entries[-1] = (world.key, "pulled", {"by": "nobody"})

    return Attack(relogged(honest, world, forget), "the kept checkpoint: .*rewritten", since=kept)


def cut_after_a_checkpoint(tmp: Path) -> Attack:
    world = World(after=[(World().key, "rejected", {"record_sha256": "0" * 64, "reason": "bad"})])
    honest = world.files()
    kept = checkpoint(honest["log.jsonl"], world.key)
    return Attack(
        relogged(honest, world, lambda entries: entries.pop()), "the kept checkpoint: .*(cut|gone)", since=kept
    )


def version_tag_at_another_commit(tmp: Path) -> Attack:
    return Attack(World(tag_commit="f" * 40).files(), "tag tavr@v0.0.1: points to ffffffffffff")


def tag_of_another_key(tmp: Path) -> Attack:
    return Attack(World(tag_key=THIEF).files(), "tag tavr@v0.0.1: signed by")


def attestation_of_another_key(tmp: Path) -> Attack:
    return Attack(World(attestation_key=THIEF).files(), "attestation.json: signed by none of the")


def forged_approval(tmp: Path) -> Attack:
    return Attack(World(approval_key=THIEF).files(), "gate: .*approval: 0 of 1")


def approval_signed_for_git(tmp: Path) -> Attack:
    class Careless(Key):
        def ssh(self, message: bytes, namespace: str) -> str:
            return super().ssh(message, "git")

    return Attack(World(approval_key=Careless(2)).files(), "gate: .*approval: 0 of 1.*signed for")


def approval_of_another_record(tmp: Path) -> Attack:
    world = World(spoil_approval=lambda told: told.update(record_sha256="0" * 64))
    return Attack(world.files(), "gate: .*approval: 0 of 1")


def approval_of_another_target(tmp: Path) -> Attack:
    return Attack(World(spoil_approval=lambda told: told.update(target="prod")).files(), "gate: .*approval: 0 of 1")


def self_approval(tmp: Path) -> Attack:
    return Attack(World(approver="ann@example.org").files(), "gate: .*approval: 0 of 1")


def self_approval_in_other_letters(tmp: Path) -> Attack:
    return Attack(World(approver="ANN@Example.org").files(), "gate: .*approval: 0 of 1")


def no_approval(tmp: Path) -> Attack:
    return Attack(World(approved=False).files(), "gate: .*approval: 0 of 1")


def approval_after_the_promotion(tmp: Path) -> Attack:
    world = World(approved=False)
    digest = sha256_bytes(world.files()["record.json"])
    late = (world.key, "approved", {**world.approval(digest), "at": LATE})
    return Attack(World(approved=False, after=[late]).files(), "gate: .*approval: 0 of 1")


def time_travel(tmp: Path) -> Attack:
    return Attack(World(approved_at="2026-01-04T00:00:00Z").files(), "line 3: dated before its predecessor")


def run_after_its_promotion(tmp: Path) -> Attack:
    world = World(spoil_record=lambda record: record["run"].update(finished_at="2026-02-01T00:00:00Z"))
    return Attack(world.files(), "record.json: .*(later|after)")


def revoked_key_used_later(tmp: Path) -> Attack:
    world = World()
    revoked = {"revoked": THIEF.fingerprint, "reason": "stolen", "from_seq": 4, "at": "2026-01-01T00:00:00Z"}
    added = {"public_key": THIEF.line, "use": "log", "at": "2026-01-01T00:00:00Z"}
    before = [(world.key, "key added", added), (world.key, "key revoked", revoked)]
    files = World(before=before, after=[(THIEF, "pulled", {})]).files()
    return Attack(files, f"signed by {re.escape(THIEF.fingerprint)}")


def rotated_key_used_later(tmp: Path) -> Attack:
    world = World()
    rotated = {"public_key": THIEF.line, "replaces": world.key.fingerprint, "at": "2026-01-01T00:00:00Z"}
    files = World(before=[(world.key, "key rotated", rotated)]).files()
    return Attack(files, f"3: signed by {re.escape(world.key.fingerprint)}")


def promoted_by_a_stolen_key(tmp: Path) -> Attack:
    """Found out later: the revocation reaches back before the promotion."""
    rescuer = Key(7)
    added = {"public_key": rescuer.line, "use": "log", "at": "2026-01-01T00:00:00Z"}
    revoked = {"revoked": Key(1).fingerprint, "reason": "stolen", "from_seq": 3, "at": LATE}
    files = World(before=[(Key(1), "key added", added)], after=[(rescuer, "key revoked", revoked)]).files()
    return Attack(files, "no trusted line of the log promoted by the tags")


def revoked_key_added_again(tmp: Path) -> Attack:
    world = World()
    added = {"public_key": THIEF.line, "use": "log", "at": "2026-01-01T00:00:00Z"}
    revoked = {"revoked": THIEF.fingerprint, "reason": "stolen", "from_seq": 3, "at": "2026-01-01T00:00:00Z"}
    before = [(world.key, "key added", added), (world.key, "key revoked", revoked), (world.key, "key added", added)]
    return Attack(World(before=before).files(), "4: .*(already added|again)")


def look_alike_person(tmp: Path) -> Attack:
    """A person hidden behind Cyrillic letters: who-used would answer no."""
    world = World()
    rows = [{**one, "person_id": one["person_id"].replace("e", "\u0435")} for one in world.rows]
    return Attack(World(rows=rows).files(), "look-alike characters outside ASCII in person_id")


def clip_that_is_no_section(tmp: Path) -> Attack:
    world = World()
    rows = [{**world.rows[0], "source_key": "s5"}, *world.rows[1:]]
    return Attack(World(rows=rows).files(), "is no such section")


def consumed_after_withdrawal(tmp: Path) -> Attack:
    early = {**WITHDRAWAL, "withdrawn_at": "2026-01-01T12:00:00Z"}
    return Attack(World(judged=[early]).files(), "withdrawn.jsonl: .*before the promotion.*consumed")


def withdrawal_kept_from_the_gate(tmp: Path) -> Attack:
    early = {**WITHDRAWAL, "withdrawn_at": "2026-01-01T12:00:00Z"}
    return Attack(World(later=[early]).files(), "withdrawn.jsonl: .*before the promotion.*consumed")


def spoilt(reason: str, change: Callable[[Json], None]) -> Callable[[Path], Attack]:
    """A candidate that the gate refuses, promoted all the same."""

    def attack(tmp: Path) -> Attack:
        return Attack(World(spoil_record=change).files(), f"gate: .*{reason}")

    return attack


def stage_refused(record: Json) -> None:
    record["stages"][-3]["state"] = "refused"


def failed_check(tmp: Path) -> Attack:
    return Attack(World(failing="pairs").files(), "gate: .*checks: .*pairs.* rows|gate: .*check_pairs: rows failed")


def rejected_before(tmp: Path) -> Attack:
    """A candidate that somebody rejected for good."""
    told = {"record_sha256": sha256_bytes(World().files()["record.json"]), "reason": "faces flicker", "actor": "C",
            "at": "2026-01-01T00:00:00Z"}  # fmt: skip
    return Attack(World(before=[(World().key, "rejected", told)]).files(), "gate: .*rejection")


def unreviewed(record: Json) -> None:
    record["reviews"][0]["review"] = "pending"


def strange_licence(record: Json) -> None:
    record["licences"]["weights"]["LicenseRef-secret"] = 1


def not_better(tmp: Path) -> Attack:
    return Attack(World(gain=-0.3).files(), "gate: .*benchmark")


def made_up_interval(tmp: Path) -> Attack:
    def better(facts: Json) -> None:
        facts["intervals"]["benchmark"].update(mean=0.1, low=0.05, high=0.2)

    return Attack(World(gain=-0.3, spoil_promotion=better).files(), "gate: .*benchmark")


def made_up_bounds(tmp: Path) -> Attack:
    def wider(facts: Json) -> None:
        facts["intervals"]["benchmark"].update(high=0.9)

    return Attack(
        World(spoil_promotion=wider).files(), "gate: benchmark: the logged interval is not one of these scores"
    )


def missing_champion(tmp: Path) -> Attack:
    world = World(before=[(World().key, "promoted", former(World(run="20251201-00000001")))])
    return Attack(world.files(), "gate: .*champion.json")


def weaker_champion(tmp: Path) -> Attack:
    """Compared with another model than the one that held the stage."""
    world = World(before=[(World().key, "promoted", former(World(run="20251201-00000001")))])
    other = World(run="20251201-00000001", gain=0.0).files()["record.json"]
    return Attack({**world.files(), "champion.json": other}, "champion.json: not the record of the version that held")


def former(world: World) -> Json:
    digest = sha256_bytes(world.files()["record.json"])
    return {"run": world.run, "target": "dev", "commit": "9" * 40, "record_sha256": digest, "version": "v0.0.0",
            "tags": ["tavr@v0.0.0", "tavr#dev#0"], "at": "2026-01-01T00:00:00Z"}  # fmt: skip


ATTACKS: dict[str, Callable[[Path], Attack]] = {
    attack.__name__: attack
    for attack in (
        rewritten_after_a_checkpoint,
        cut_after_a_checkpoint,
        version_tag_at_another_commit,
        tag_of_another_key,
        attestation_of_another_key,
        forged_approval,
        approval_signed_for_git,
        approval_of_another_record,
        approval_of_another_target,
        self_approval,
        self_approval_in_other_letters,
        no_approval,
        approval_after_the_promotion,
        time_travel,
        run_after_its_promotion,
        revoked_key_used_later,
        rotated_key_used_later,
        promoted_by_a_stolen_key,
        revoked_key_added_again,
        look_alike_person,
        clip_that_is_no_section,
        consumed_after_withdrawal,
        withdrawal_kept_from_the_gate,
        failed_check,
        rejected_before,
        not_better,
        made_up_interval,
        made_up_bounds,
        missing_champion,
        weaker_champion,
    )
} | {
    "stage_refused": spoilt("stages", stage_refused),
    "unreviewed": spoilt("review", unreviewed),
    "strange_licence": spoilt("licence", strange_licence),
    "person_in_both": spoilt("people", lambda record: record["people"].update(in_both=["person0"])),
    "withdrawn_on_the_record": spoilt("withdrawal", lambda record: record["consumption"].update(withdrawn_clips=["c"])),
    "unknown_on_the_record": spoilt("withdrawal", lambda record: record["consumption"].update(unknown_clips=["c"])),
    "dirty_tree": spoilt("tree", lambda record: record["code"].update(dirty=True, dirty_paths=["x.py"])),
}
