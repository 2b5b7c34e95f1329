"""Keeping the template of a withdrawn face: in git beside the tombstones, so that every run repeats the block."""

from dataclasses import asdict
from pathlib import Path

from tavr_records.ids import canonical_json
from tavr_records.withdrawn_faces import WithdrawnFace, read_withdrawn_faces

from tavr_lineage.withdrawal.tombstones import commit_alone, demand_committed

FACES = "audit/withdrawn_faces.jsonl"


def keep_face(root: Path, face: WithdrawnFace) -> None:
    """Append and commit a template; one that is there already is not written twice.

    Raises:
        InputError: the file has changes that are not committed.
    """
    demand_committed(root, FACES)
    faces = read_withdrawn_faces(root / FACES) if (root / FACES).is_file() else []
    if any(known.template == face.template for known in faces):
        return
    data = b"".join(canonical_json(asdict(line)) + b"\n" for line in [*faces, face])
    commit_alone(root, FACES, data, "Block a withdrawn face", "policy: withdrawal.face_match")
