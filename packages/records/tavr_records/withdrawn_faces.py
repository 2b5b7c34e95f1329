"""Faces that may not come back (`audit/withdrawn_faces.jsonl`): templates under a key, one JSON object a line, in git.

A template is the signs of the unit mean face along 2048 directions drawn from the key of the pseudonyms. Two faces at
an angle a differ in a share a / pi of the signs, so the cosine can be told with a standard error of about 0.03, but no
face can be computed back from the signs; without the key they cannot even be compared. Destroying the key forgets the
face. (Random hyperplanes: Charikar 2002, "Similarity estimation techniques from rounding algorithms".)
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from tavr_records.errors import InputError
from tavr_records.ids import sha256_bytes

BITS = 2048
_LABEL = b"withdrawn face "


@dataclass(frozen=True)
class WithdrawnFace:
    """One withdrawn face.

    Attributes:
        template: 512 hex digits.
        network: digest of the identity network's folder; templates of another network say nothing.
        least_similarity: cosine from which on a clip is refused, as the policy stood.
    """

    template: str
    network: str
    least_similarity: float
    withdrawn_at: str


def read_withdrawn_faces(path: Path) -> list[WithdrawnFace]:
    """Read every template; an empty file means none.

    Raises:
        InputError: no such file, or a line that is no template.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file; restore it from git (an empty file means no face is withdrawn)")
    lines = path.read_text(encoding="utf-8").splitlines()
    return [_parse(line, f"{path}:{number}") for number, line in enumerate(lines, start=1) if line.strip()]


def _parse(line: str, where: str) -> WithdrawnFace:
    try:
        document: Any = json.loads(line)
        face = WithdrawnFace(**cast("dict[str, Any]", document))
        well_formed = len(bytes.fromhex(face.template)) * 8 == BITS and 0 < float(face.least_similarity) <= 1
    except (json.JSONDecodeError, TypeError, ValueError) as error:
        raise InputError(f"{where}: not a withdrawn face ({error}); restore the file from git") from error
    if not well_formed:
        raise InputError(f"{where}: needs {BITS // 4} hex digits and 0 < least_similarity <= 1; restore it from git")
    return face


def face_template(mean_face: NDArray[np.float32], key: bytes) -> str:
    """The template of a unit mean face float32 [D] under a key."""
    return np.packbits(_directions(key, len(mean_face)) @ mean_face.astype(np.float64) > 0).tobytes().hex()


def similarities(mean_face: NDArray[np.float32], faces: Sequence[WithdrawnFace], key: bytes) -> NDArray[np.float64]:
    """Estimated cosine of a unit mean face float32 [D] to each withdrawn face, float64 [n]."""
    if not faces:
        return np.zeros(0)
    own = np.unpackbits(np.frombuffer(bytes.fromhex(face_template(mean_face, key)), np.uint8))
    others = np.stack([np.unpackbits(np.frombuffer(bytes.fromhex(face.template), np.uint8)) for face in faces])
    return np.cos(math.pi * (own != others).mean(axis=1))


def _directions(key: bytes, dimension: int) -> NDArray[np.float64]:
    """Gaussian directions [BITS, D], the same for the same key on every machine."""
    seed = int(sha256_bytes(_LABEL + key), 16)
    return np.random.Generator(np.random.PCG64(seed)).standard_normal((BITS, dimension))
