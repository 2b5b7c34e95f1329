"""The committed worlds are what their sizes plan, and follow the schemas."""

import hashlib
import json

import jsonschema
import pytest
from tavr_sources.lock import read_lock
from tavr_sources.refresh import locked_rows, true_decisions

WORLDS = ("micro", "tiny", "small")


@pytest.mark.parametrize("name", WORLDS)
def test_the_committed_lock_is_fresh(root, name):
    lock = read_lock(root / f"packages/synthetic/worlds/{name}.lock.json")
    assert lock.world is not None
    planned = {row.record_id: (row.source_key, row.origin, row.section) for row in locked_rows(lock.world, "x")}
    assert {row.record_id: (row.source_key, row.origin, row.section) for row in lock.rows} == planned


@pytest.mark.parametrize("name", WORLDS)
def test_the_committed_reviews_are_fresh(root, name):
    lock = read_lock(root / f"packages/synthetic/worlds/{name}.lock.json")
    assert lock.world is not None
    decisions = json.loads((root / f"packages/synthetic/worlds/{name}.review.json").read_text())["decisions"]
    assert [d["pair_id"] for d in decisions] == [d["pair_id"] for d in true_decisions(lock.world, "x")]


@pytest.mark.parametrize("name", WORLDS)
@pytest.mark.parametrize(("kind", "schema"), [("lock", "sources.lock"), ("review", "review")])
def test_the_committed_files_follow_their_schema(root, name, kind, schema):
    document = json.loads((root / f"packages/synthetic/worlds/{name}.{kind}.json").read_text())
    jsonschema.validate(document, json.loads((root / f"docs/schemas/{schema}.schema.json").read_text()))


def test_tiny_is_big_enough(root):
    world = read_lock(root / "packages/synthetic/worlds/tiny.lock.json").world
    assert world is not None
    assert world["people"] >= 60
    assert world["scenes_per_person"] >= 2
    assert world["rejects"] >= 6


def test_the_key_is_the_one_that_is_named(root):
    text = (root / "packages/synthetic/worlds/person.key").read_bytes()
    assert len(hashlib.sha256(text).hexdigest()) == 64
    assert len(text.strip()) == 64
