"""Which models did a clip, a person or a source go into: answers from the index (`index.py`)."""

import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tavr_records.errors import InputError

from tavr_lineage.candidates import Standing, open_finished, standings
from tavr_lineage.git import repository_root
from tavr_lineage.index import open_index
from tavr_lineage.policy import artifact_name
from tavr_lineage.stages import JUDGED, ORDER

COLUMNS: Mapping[str, tuple[str, ...]] = {
    "clip": ("clip_id",),
    "person": ("person_id", "identity"),
    "source": ("source_key",),
    "file": ("source_sha256", "clip_sha256"),
}
PROVEN = {"clip": "clip_id", "person": "person_id", "source": "source_key", "file": "sha256"}
"""The kind of leaf in the tree of subjects that proves a kind."""
_SHORTEST = 8


@dataclass(frozen=True)
class Subject:
    """What is asked for: a `clip`, `person`, `source` or `file`, with its whole id."""

    kind: str
    value: str


@dataclass(frozen=True)
class StageUse:
    """What one stage of one model did with a subject's clips: optimizer steps, distinct clips, samples."""

    stage: str
    first_step: int
    last_step: int
    samples: int
    clips: int


@dataclass(frozen=True)
class ModelUse:
    """One model that a subject went into.

    Attributes:
        remedy: what a withdrawal asks of its owner: `block` (it holds no stage, and the gate will refuse it), or
            `retrain from <stage>`, the first stage that used the subject.
    """

    run_id: str
    commit: str
    profile: str
    finished_at: str
    versions: tuple[str, ...]
    holds: tuple[str, ...]
    held: tuple[str, ...]
    uses: tuple[StageUse, ...]
    remedy: str


@dataclass(frozen=True)
class Answer:
    """All models a subject went into, newest last, of `candidates` there are; `clips` are its clips in any of them."""

    subject: Subject
    clips: tuple[str, ...]
    models: tuple[ModelUse, ...]
    candidates: int


def who_used(root: Path, asked: str) -> Answer:
    """Every model that a clip, person, source or file went into.

    Args:
        root: any folder of the checkout.
        asked: `clip:ID`, `person:ID`, `source:KEY` or `file:SHA256`, or the id alone; an id may be cut to 8 characters.

    Raises:
        InputError: an unknown kind, a text too short, or one that fits several.
    """
    root = repository_root(root)
    artifact = artifact_name(root)
    with open_index(root, artifact) as database:
        subject = find_subject(database, asked)
        clips, uses = _uses(database, subject)
        models = _models(database, uses, standings(root, artifact))
        (candidates,) = database.execute("SELECT count(*) FROM candidates").fetchone()
    return Answer(subject, clips, models, candidates)


def prove_subject(root: Path, model: str, asked: str) -> dict[str, Any]:
    """A Merkle proof that a subject is in a model's closure, or is not (`subjects.py`), with the record it is of.

    Args:
        root: any folder of the checkout.
        model: a run id, version or commit.
        asked: as `who_used`.

    Raises:
        InputError: as `who_used`; no such model; its consumption table is not the one its record names.
    """
    from tavr_lineage.closure import read_consumption
    from tavr_lineage.subjects import subject_tree

    root = repository_root(root)
    found = open_finished(root, model)
    with open_index(root, artifact_name(root)) as database:
        subject = find_subject(database, asked)
    table = read_consumption(root, found.commit, found.record)
    people, faces = (set(table[name].to_pylist()) for name in ("person_id", "identity"))
    if subject.kind == "person" and subject.value in faces - people:
        raise InputError(f"{asked!r}: a group of faces of one run, which nothing proves; name a person id of its rows")
    tree = subject_tree(table)
    told = {"run": found.run_id, "record_sha256": found.record_sha256}
    return tree.prove(PROVEN[subject.kind], subject.value) | told


def find_subject(database: sqlite3.Connection, asked: str) -> Subject:
    """The one subject that a text names; a whole id that no model used is a subject too.

    Raises:
        InputError: as `who_used`.
    """
    named, _, rest = asked.partition(":")
    named = next((kind for kind, leaf in PROVEN.items() if named == leaf), named)  # the evidence's names are ours too
    kinds = (named,) if rest and named in COLUMNS else tuple(COLUMNS)
    text = rest if kinds == (named,) else asked
    whole = {Subject(kind, text) for kind in kinds if _matches(database, kind, text, text)}
    if not whole and len(text) < _SHORTEST:
        raise InputError(f"{asked!r}: give a whole id, or at least its first {_SHORTEST} characters")
    found = whole or {
        Subject(kind, value) for kind in kinds for value in _matches(database, kind, text, text + "\U0010ffff")
    }
    if len(found) > 1:
        listed = ", ".join(sorted(f"{subject.kind}:{subject.value[:16]}" for subject in found)[:4])
        raise InputError(f"{asked!r}: fits {len(found)} ({listed}); give more of it, or its kind in front, as clip:...")
    return found.pop() if found else Subject(kinds[0] if len(kinds) == 1 else "clip", text)


def remedy(stages: Sequence[str], standing: Standing) -> str:
    """What the owner of a model has to do when what these stages used is withdrawn."""
    learnt = [stage for stage in ORDER if stage in stages and stage != JUDGED]
    if not learnt and JUDGED not in stages:
        return "none"
    if not standing.promoted:
        return "block"
    return f"retrain from {learnt[0]}" if learnt else f"retrain from {JUDGED}"


def _matches(database: sqlite3.Connection, kind: str, low: str, high: str) -> set[str]:
    """Values of a kind from `low` to `high`, at most a few."""
    found: set[str] = set()
    for column in COLUMNS[kind]:
        query = f"SELECT DISTINCT {column} FROM clips WHERE {column} BETWEEN ? AND ? LIMIT 5"  # noqa: S608
        found |= {value for (value,) in database.execute(query, (low, high))}
    return found


def _uses(database: sqlite3.Connection, subject: Subject) -> tuple[tuple[str, ...], dict[int, list[StageUse]]]:
    """The subject's clips, and what each candidate's stages did with them."""
    where = " OR ".join(f"{column} = :value" for column in COLUMNS[subject.kind])
    chosen = f"(SELECT id FROM clips WHERE {where})"  # noqa: S608
    value = {"value": subject.value}
    query = f"""SELECT candidate, stage, min(first_step), max(last_step), sum(samples), count(DISTINCT clip_id)
        FROM uses JOIN clips ON clips.id = uses.clip WHERE clip IN {chosen} GROUP BY candidate, stage"""  # noqa: S608
    uses: dict[int, list[StageUse]] = {}
    for candidate, *row in database.execute(query, value):
        uses.setdefault(candidate, []).append(StageUse(*row))
    clips = database.execute(f"SELECT DISTINCT clip_id FROM clips WHERE {where} ORDER BY clip_id", value)  # noqa: S608
    return tuple(clip for (clip,) in clips), uses


def _models(
    database: sqlite3.Connection, uses: Mapping[int, list[StageUse]], known: Mapping[str, Standing]
) -> tuple[ModelUse, ...]:
    models: list[ModelUse] = []
    for number, found in uses.items():
        query = "SELECT run_id, commit_id, profile, finished_at FROM candidates WHERE id = ?"
        run_id, commit, profile, finished_at = database.execute(query, (number,)).fetchone()
        standing = known.get(commit, Standing())
        ordered = tuple(sorted(found, key=lambda use: ORDER.index(use.stage) if use.stage in ORDER else len(ORDER)))
        models.append(
            ModelUse(
                run_id, commit, profile, finished_at, standing.versions, standing.holds, standing.held, ordered,
                remedy([use.stage for use in ordered], standing),
            )
        )  # fmt: skip
    return tuple(sorted(models, key=lambda model: (model.finished_at, model.run_id)))
