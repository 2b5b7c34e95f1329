"""One changed byte in any record, log line, ledger, signature or weight file is found: by both verifiers, and by the gate."""

import base64
import json
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import yaml
from attack import WITHDRAWAL, Attack
from attacks_container import lay_out
from evidence_world import MODEL, World, checkpoint
from hypothesis import given, settings
from hypothesis import strategies as st
from stand_alone import AUDITOR
from tavr_lineage.candidate import Candidate
from tavr_lineage.evidence.container import read_zip, write_zip
from tavr_lineage.evidence.tables import read_closure
from tavr_lineage.evidence.verification import FAILED
from tavr_lineage.git import read_file
from tavr_lineage.outputs import stored_files
from tavr_lineage.promotion import open_case
from tavr_records.errors import VerificationError

from .conftest import finish_run, make_checkout
from .test_tampering import in_house, stand_alone

WORLD = World(judged=[{**WITHDRAWAL, "value": "somebody else", "withdrawn_at": "2026-01-01T00:00:00Z"}])
FILES = WORLD.files()
SAME: dict[str, Callable[[bytes], object]] = {
    "params.yaml": yaml.safe_load,
    "checkpoint.json": lambda data: _envelope(json.loads(data)),
    "consumption.sqlite": lambda data: read_closure(data).to_pylist(),
}
"""Files of which the content is pinned, not the bytes: a space in YAML, a free page of SQLite say nothing."""
FOR_THE_EYES = {"params.yaml"}
"""The stand-alone verifier concludes nothing from it (it reads no YAML): parameters stand in the record."""


def _envelope(document: dict[str, Any]) -> tuple[object, ...]:
    """What a DSSE envelope says: base64 has several spellings of one value, and `keyid` is a hint."""
    payload = base64.b64decode(document["payload"], validate=True)
    signatures = [base64.b64decode(one["sig"], validate=True) for one in document["signatures"]]
    return payload, document["payloadType"], signatures


def flipped(data: bytes, place: int, mask: int) -> bytes:
    at = place % len(data)
    return data[:at] + bytes([data[at] ^ mask]) + data[at + 1 :]


def says_the_same(name: str, before: bytes, after: bytes) -> bool:
    try:
        return name in SAME and SAME[name](before) == SAME[name](after)
    except (yaml.YAMLError, ValueError, KeyError, VerificationError):
        return False


@settings(max_examples=100, deadline=None)
@given(name=st.sampled_from(sorted(FILES)), place=st.integers(0, 1 << 20), mask=st.integers(1, 255))
def test_in_evidence(name: str, place: int, mask: int) -> None:
    spoilt = flipped(FILES[name], place, mask)
    if says_the_same(name, FILES[name], spoilt):
        return
    attack = Attack({**FILES, name: spoilt}, "", since=checkpoint(FILES["log.jsonl"], WORLD.key, size=2))
    with TemporaryDirectory() as folder:
        path = Path(folder) / "evidence.zip"
        write_zip(path, attack.files)
        for verifier in (in_house, stand_alone):
            if name in FOR_THE_EYES and verifier is stand_alone:
                continue
            assert verifier(path, attack)[0] == FAILED, (verifier.__name__, name, place % len(FILES[name]), mask)


@settings(max_examples=150, deadline=None)
@given(place=st.integers(0, 1 << 20), mask=st.integers(1, 255))
def test_in_the_file_that_holds_it(place: int, mask: int) -> None:
    """The zip file is refused, or it holds the very same: the date of a member says nothing."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "evidence.zip"
        write_zip(path, FILES)
        path.write_bytes(flipped(path.read_bytes(), place, mask))
        for read, verifier in ((read_zip, in_house), (AUDITOR.read_zip, stand_alone)):
            state, reason = verifier(path, Attack({}, ""))
            assert state == FAILED or read(path) == FILES, (verifier.__name__, place, mask, reason)


@settings(max_examples=30, deadline=None)
@given(name=st.sampled_from(sorted(MODEL)), place=st.integers(0, 1 << 20), mask=st.integers(1, 255))
def test_in_the_weights(name: str, place: int, mask: int) -> None:
    with TemporaryDirectory() as folder:
        weights = lay_out(Path(folder) / "model", {name: flipped(MODEL[name], place, mask)})
        path = Path(folder) / "evidence.zip"
        write_zip(path, FILES)
        for verifier in (in_house, stand_alone):
            assert verifier(path, Attack({}, "", weights=weights))[0] == FAILED, verifier.__name__


@pytest.fixture(scope="module")
def candidate(tmp_path_factory: pytest.TempPathFactory, root: Path) -> tuple[Path, Candidate]:
    """A checkout with a finished run."""
    checkout = make_checkout(tmp_path_factory.mktemp("bytes") / "checkout", root)
    return checkout, finish_run(checkout, "20260101-00000001")


@settings(max_examples=30, deadline=None)
@given(
    name=st.sampled_from(
        [
            f"data/{stage}/{file}"
            for stage in ("stage1", "stage3")
            for file in ("ledger.parquet", "model/model.safetensors")
        ]
        + ["data/ingest/manifest.parquet", "data/benchmark/manifest.parquet"]
    ),
    place=st.integers(0, 1 << 20),
    mask=st.integers(1, 255),
)
def test_in_the_store(candidate: tuple[Path, Candidate], name: str, place: int, mask: int) -> None:
    """Ledgers, manifests and weights in the DVC cache: the gate refuses and names the file."""
    checkout, made = candidate
    path = dict(stored_files(read_file(checkout, made.commit, "dvc.lock") or b"", checkout / ".dvc/cache"))[name]
    honest = path.read_bytes()
    try:
        path.write_bytes(flipped(honest, place, mask))
        assert f"digests: {name} in the DVC cache differs from the record's sha256" in _reasons(checkout, made)
    finally:
        path.write_bytes(honest)


def _reasons(checkout: Path, made: Candidate) -> tuple[str, ...]:
    return tuple(open_case(checkout, made.commit, "dev").decision.reasons)
