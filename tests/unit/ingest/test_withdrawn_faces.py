"""A withdrawn face does not come back under another name; the block is a pure function of the committed file."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from tavr_ingest.faces import make_face, open_face_block
from tavr_ingest.stage import ingest
from tavr_records.errors import InputError
from tavr_records.ids import sha256_file
from tavr_records.manifest import read_manifest
from tavr_records.memo import folder_digest
from tavr_records.schemas import Clip, ClipFace, Refused
from tavr_records.withdrawn_faces import WithdrawnFace

from .conftest import DataSet, make_config

AT = "2026-02-01T00:00:00Z"


def ingested(data_set: DataSet) -> tuple[list[Clip], dict[str, np.ndarray], dict[str, Refused]]:
    ingest(make_config(), data_set.root)
    folder = data_set.root / "data/ingest"
    faces = read_manifest(folder / "faces.parquet", ClipFace)
    refused = {row.record_id: row for row in read_manifest(folder / "quarantine.parquet", Refused)}
    vectors = {face.clip_id: np.asarray(face.vector, np.float32) for face in faces}
    return read_manifest(folder / "manifest.parquet", Clip), vectors, refused


def block(root: Path, *faces: WithdrawnFace) -> None:
    lines = "".join(json.dumps(asdict(face)) + "\n" for face in faces)
    (root / "audit/withdrawn_faces.jsonl").write_text(lines)


def withdrawn_face(root: Path, vector: np.ndarray, least: float = 0.9999) -> WithdrawnFace:
    return make_face([vector], (root / "person.key").read_bytes(), folder_digest(root / "weights/identity"), least, AT)


def test_the_same_face_under_another_name_is_quarantined(data_set: DataSet) -> None:
    data_set.add("one")
    data_set.add("two")
    data_set.write()
    clips, faces, _ = ingested(data_set)
    assert [clip.clip_id for clip in clips] == sorted(faces)
    mine = next(clip for clip in clips if clip.record_id == "one")
    np.testing.assert_allclose(np.linalg.norm(faces[mine.clip_id]), 1.0, atol=1e-6)
    block(data_set.root, withdrawn_face(data_set.root, faces[mine.clip_id]))
    data_set.records[0]["info"]["Person ID"] = "somebody else"
    data_set.source("one", "another-video", (0, 1200))
    data_set.write()
    clips, faces, refused = ingested(data_set)
    assert [clip.record_id for clip in clips] == ["two"]
    assert refused["one"].rule == "withdrawn_face"
    assert refused["one"].reason == "like a withdrawn face: similarity 1.00, limit 0.9999"
    assert list((data_set.root / "data/ingest/clips").glob(f"{mine.clip_id}*")) == []
    assert len(faces) == 1


def test_the_block_needs_no_new_work_and_leaves_fresh_and_incremental_equal(data_set: DataSet, tmp_path: Path) -> None:
    data_set.add("one")
    data_set.add("two")
    data_set.write()
    clips, faces, _ = ingested(data_set)
    entries = sorted(path.name for path in (data_set.root / ".work/ingest/memo").glob("*/*"))
    block(data_set.root, withdrawn_face(data_set.root, faces[clips[0].clip_id]))

    def digests() -> dict[str, str]:
        ingested(data_set)
        folder = data_set.root / "data/ingest"
        return {str(path.relative_to(folder)): sha256_file(path) for path in folder.rglob("*") if path.is_file()}

    incremental = digests()
    assert sorted(path.name for path in (data_set.root / ".work/ingest/memo").glob("*/*")) == entries
    for name in (".work", "data/ingest"):
        (data_set.root / name).rename(tmp_path / f"old{name[-4:]}")
    assert digests() == incremental


def test_a_template_of_another_network_is_refused_rather_than_passed_over(data_set: DataSet) -> None:
    identity, key = data_set.root / "weights/identity", b"a key\n"
    face = withdrawn_face(data_set.root, np.eye(3, dtype=np.float32)[0])
    block(data_set.root, face)
    assert open_face_block(data_set.root, identity, key).refuses(np.eye(3, dtype=np.float32)[0]) is not None
    assert open_face_block(data_set.root, identity, key).refuses(np.eye(3, dtype=np.float32)[1]) is None
    block(data_set.root, replace(face, network="0" * 64))
    with pytest.raises(InputError, match=r"withdrawn_faces.jsonl:1: made by identity network 000000000000"):
        open_face_block(data_set.root, identity, key)
    block(data_set.root)
    assert open_face_block(data_set.root, data_set.root / "nowhere", key).faces == []
