"""Withdrawn faces: what refuses a clip by its face, and how the template of a face is made from clips."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tavr_records.errors import InputError
from tavr_records.memo import folder_digest
from tavr_records.withdrawn_faces import WithdrawnFace, face_template, read_withdrawn_faces, similarities

FACES = Path("audit/withdrawn_faces.jsonl")


@dataclass(frozen=True)
class FaceBlock:
    """The withdrawn faces and the key their templates are under."""

    faces: Sequence[WithdrawnFace]
    key: bytes

    def refuses(self, mean_face: NDArray[np.float32]) -> str | None:
        """Why a clip with this unit mean face float32 [D] is refused; None when no withdrawn face is like it."""
        for face, similarity in zip(self.faces, similarities(mean_face, self.faces, self.key), strict=True):
            if similarity >= face.least_similarity:
                return f"like a withdrawn face: similarity {similarity:.2f}, limit {face.least_similarity:g}"
        return None


def open_face_block(root: Path, identity: Path, key: bytes) -> FaceBlock:
    """The block as committed.

    Raises:
        InputError: a template was made by another identity network and so can refuse nobody.
    """
    faces = read_withdrawn_faces(root / FACES)
    network = folder_digest(identity) if faces else ""
    for number, face in enumerate(faces, start=1):
        if face.network != network:
            raise InputError(
                f"{root / FACES}:{number}: made by identity network {face.network[:12]}, ingest has {network[:12]}; "
                "keep that network, or take the line out and so give the block up"
            )
    return FaceBlock(faces, key)


def make_face(
    mean_faces: Sequence[NDArray[np.float32]], key: bytes, network: str, least_similarity: float, at: str
) -> WithdrawnFace:
    """The template of a person's unit mean face over some clips, float32 [D] each; `network` digests what made them."""
    mean = np.sum(np.asarray(mean_faces, np.float64), axis=0)
    unit = (mean / np.linalg.norm(mean)).astype(np.float32)
    return WithdrawnFace(face_template(unit, key), network, least_similarity, at)
