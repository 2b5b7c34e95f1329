"""Attacks on a release: each is refused by our verifier and by the stand-alone one, for the reason that it is an attack.

An outsider edits files; an operator holds the signing key and lies. What nobody can prove is in docs/audit.md.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attacks_champion
import attacks_container
import attacks_operator
import attacks_outside
import pytest
from attack import WITHDRAWAL, Attack
from attacks_container import in_zip, lay_out
from attacks_operator import former
from evidence_world import LATE, Key, World, checkpoint, write_log
from stand_alone import AUDITOR, JUDGE
from tavr_lineage.evidence.container import read_zip, write_zip
from tavr_lineage.evidence.verification import FAILED, VERIFIED, WITHDRAWN, Demands, verify_evidence
from tavr_lineage.evidence.weights_folder import check_weights
from tavr_records.errors import VerificationError

ATTACKS: dict[str, Callable[[Path], Attack]] = {
    **attacks_outside.ATTACKS,
    **attacks_operator.ATTACKS,
    **attacks_container.ATTACKS,
    **attacks_champion.ATTACKS,
}


def in_house(path: Path, attack: Attack) -> tuple[str, str]:
    """State and reasons of the project's own verifier."""
    try:
        files = read_zip(path)
    except VerificationError as error:
        return FAILED, str(error)
    weights = attack.weights
    more = {} if weights is None else {"weights": lambda promoted: check_weights(promoted.record, weights)}
    found = verify_evidence(files, Demands(attack.trust, attack.since, more=more))
    return found.state, " | ".join(f"{check.step}: {check.reason}" for check in found.checks if not check.ok)


def stand_alone(path: Path, attack: Attack) -> tuple[str, str]:
    """State and reasons of the stand-alone verifier."""
    try:
        files = AUDITOR.read_zip(path)
    except Exception as error:  # noqa: BLE001 - as its command does
        return FAILED, str(error)
    evidence = JUDGE.Judge(files, attack.trust, attack.since, attack.weights)
    steps = AUDITOR.verify(evidence)
    if all(step["ok"] for step in steps):
        return (WITHDRAWN if evidence.withdrawn else VERIFIED), ""
    return FAILED, " | ".join(f"{step['step']}: {step['reason']}" for step in steps if not step["ok"])


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_zip_with_one_name_twice_is_refused(tmp_path: Path) -> None:
    attack = in_zip("is there twice", "record.json", b"{}\n")(tmp_path)
    refuse(attack, tmp_path)


@pytest.mark.parametrize("name", ATTACKS)
def test_both_verifiers_refuse_it_with_the_reason(name: str, tmp_path: Path) -> None:
    refuse(ATTACKS[name](tmp_path), tmp_path)


def refuse(attack: Attack, tmp_path: Path) -> None:
    path = tmp_path / "evidence.zip"
    write_zip(path, attack.files)
    if attack.spoil_zip is not None:
        attack.spoil_zip(path)
    for verifier in (in_house, stand_alone):
        state, reasons = verifier(path, attack)
        assert state == FAILED, verifier.__name__
        assert re.search(attack.reason, reasons), (verifier.__name__, attack.reason, reasons)


def honest(tmp_path: Path, world: World, **changes: Any) -> list[tuple[str, str]]:
    path = tmp_path / "evidence.zip"
    write_zip(path, world.files())
    attack = Attack({}, "", **changes)
    return [in_house(path, attack), stand_alone(path, attack)]


def test_what_is_honest_is_verified_by_both(tmp_path: Path) -> None:
    world = World()
    kept = checkpoint(world.files()["log.jsonl"], world.key, size=2)
    trust = world.key.fingerprint
    assert honest(tmp_path, world, trust=trust, since=kept, weights=lay_out(tmp_path / "m")) == [(VERIFIED, "")] * 2


def test_a_withdrawal_after_the_promotion_is_no_failure(tmp_path: Path) -> None:
    assert honest(tmp_path, World(later=[WITHDRAWAL])) == [(WITHDRAWN, "")] * 2
    section = {"kind": "source_key", "value": "s0", "start_ms": 1000, "end_ms": 2000}
    elsewhere = {**section, "reason": "r", "withdrawn_at": "2026-03-01T00:00:00Z"}
    assert honest(tmp_path, World(later=[elsewhere])) == [(VERIFIED, "")] * 2


def test_keys_come_and_go_and_an_old_release_stays_good(tmp_path: Path) -> None:
    world, new = World(), Key(9)
    rotated = {"public_key": new.line, "replaces": world.key.fingerprint, "at": LATE}
    revoked = {"revoked": world.key.fingerprint, "reason": "lost", "from_seq": 5, "at": LATE}
    after = [(world.key, "key rotated", rotated), (new, "key revoked", revoked), (new, "pulled", {})]
    assert honest(tmp_path, World(after=after)) == [(VERIFIED, "")] * 2


def test_a_champion_is_compared_again(tmp_path: Path) -> None:
    weaker = World(run="20251201-00000001", gain=0.1)
    data = weaker.files()["record.json"]

    def told(facts: dict[str, Any]) -> None:
        interval = facts["intervals"]["benchmark"]
        facts["intervals"]["champion"] = {**interval, "mean": 0.2, "low": 0.2, "high": 0.2}

    world = World(before=[(World().key, "promoted", former(weaker))], spoil_promotion=told)
    path = tmp_path / "evidence.zip"
    write_zip(path, {**world.files(), "champion.json": data})
    attack = Attack({}, "")
    assert [in_house(path, attack), stand_alone(path, attack)] == [(VERIFIED, "")] * 2


def test_a_champion_in_which_somebody_withdrew_is_no_bar(tmp_path: Path) -> None:
    path = tmp_path / "evidence.zip"
    write_zip(path, attacks_champion.passed_over())
    attack = Attack({}, "")
    assert [in_house(path, attack), stand_alone(path, attack)] == [(VERIFIED, "")] * 2


def test_a_log_line_may_not_be_written_twice_the_same_way(tmp_path: Path) -> None:
    files = World().files()
    spaced = files["log.jsonl"].replace(b'","at":', b'", "at":', 1)
    attack = Attack({**files, "log.jsonl": spaced}, "canonical JSON")
    refuse(attack, tmp_path)
    assert write_log([(Key(1), "key added", {"public_key": Key(1).line, "use": "log"})]).endswith(b"}\n")
