"""Attacks around a champion that is no bar: the operator says somebody in it had withdrawn."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from attack import WITHDRAWAL, Attack, Files, edited
from attacks_operator import former
from evidence_world import Json, World, table_of
from tavr_lineage.subjects import subject_tree
from tavr_records.ids import canonical_json

EARLY = {**WITHDRAWAL, "withdrawn_at": "2026-01-01T12:00:00Z"}
PROOF = "champion_proof.json"


def passed_over(judged: list[Json] | None = None, later: list[Json] | None = None, value: str = "person0") -> Files:
    """A release that is weaker than the champion before it, in which `value` is said to be withdrawn."""
    champion = World(run="20251201-00000001", gain=0.6)
    gone = {"run": champion.run, "kind": "person_id", "value": value}
    world = World(
        rows=[one for one in World().rows if one["person_id"] != "person0"],
        judged=[EARLY] if judged is None else judged,
        later=later or [],
        before=[(World().key, "promoted", former(champion))],
        spoil_promotion=lambda facts: facts.update(withdrawn_champion=gone),
    )
    proof = subject_tree(table_of(champion.rows)).prove("person_id", value)
    files = {"champion.json": champion.files()["record.json"], PROOF: canonical_json(proof) + b"\n"}
    return {**world.files(), **files}


def champion_withdrawn_by_nobody(tmp: Path) -> Attack:
    return Attack(passed_over(judged=[]), "person0 was not withdrawn when the champion was passed over")


def champion_withdrawn_later(tmp: Path) -> Attack:
    files = passed_over(judged=[], later=[WITHDRAWAL])
    return Attack(files, "person0 was not withdrawn when the champion was passed over")


def champion_without_the_withdrawn(tmp: Path) -> Attack:
    files = passed_over(judged=[{**EARLY, "value": "person77"}], value="person77")
    return Attack(files, f"{PROOF}: (proves that the champion did not use|of another subject)")


def champion_proof_left_out(tmp: Path) -> Attack:
    files = passed_over()
    return Attack({name: data for name, data in files.items() if name != PROOF}, f"missing or malformed: .*{PROOF}")


def champion_proof_of_somebody_else(tmp: Path) -> Attack:
    other = subject_tree(table_of(World().rows)).prove("person_id", "person1")
    return Attack({**passed_over(), PROOF: canonical_json(other) + b"\n"}, f"{PROOF}: of another subject")


def champion_proof_bent(tmp: Path) -> Attack:
    def bend(proof: Any) -> None:
        proof["rows"] = [line.replace("\t3\n", "\t4\n") for line in proof["rows"]]

    return Attack(edited(passed_over(), PROOF, bend), "does not lead to the (record's )?root")


ATTACKS: dict[str, Callable[[Path], Attack]] = {
    attack.__name__: attack
    for attack in (
        champion_withdrawn_by_nobody,
        champion_withdrawn_later,
        champion_without_the_withdrawn,
        champion_proof_left_out,
        champion_proof_of_somebody_else,
        champion_proof_bent,
    )
}
