"""What a withdrawal can reach from here: the Prefect server when one runs, and the faces that `ingest` has kept."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute
import pyarrow.parquet as pq
from numpy.typing import NDArray
from tavr_lineage.git import main_checkout, read_file
from tavr_lineage.outputs import stored_files
from tavr_lineage.withdrawal.affected import Candidate, candidates
from tavr_lineage.withdrawal.letter import Means
from tavr_records.ids import canonical_json, sha256_bytes
from tavr_records.withdrawn_faces import WithdrawnFace

from tavr_flows.prefect_traces import PrefectTraces
from tavr_flows.server import announced_server, is_healthy

pc: Any = pyarrow.compute  # its functions are made when it is imported
_FACES = "data/ingest/faces.parquet"
_IDENTITY = "identity/"


def withdrawal_means(root: Path) -> Means:
    """Services that answer now; what does not answer is named in the certificate as not looked into."""
    url = announced_server(root) or os.environ.get("PREFECT_API_URL", "")
    outside = {"prefect": PrefectTraces(url).look} if url and is_healthy(url) else {}
    return Means(outside, face_of)


def face_of(root: Path, clips: Sequence[str], least_similarity: float, at: str) -> WithdrawnFace | None:
    """The template of the face in some clips, from the newest run that kept it and under that run's key."""
    newest_first = sorted(candidates(root), key=lambda one: str(one.record["run"]["run_id"]), reverse=True)
    for one in newest_first:
        faces, key = faces_of(root, one, clips), _key(root, one)
        if len(faces) and key:
            return _template(faces, key, _network(one), least_similarity, at)
    return None


def faces_of(root: Path, one: Candidate, clips: Sequence[str]) -> NDArray[np.float32]:
    """Mean faces float32 [n, D] of those of the clips that a candidate's ingest kept and DVC's cache still has."""
    lock = read_file(root, one.commit, "dvc.lock") or b""
    for name, path in stored_files(lock, main_checkout(root) / ".dvc/cache"):
        if name == _FACES and path.is_file():
            table: Any = pq.read_table(path.open("rb"))
            mine = table.filter(pc.is_in(table["clip_id"], value_set=pyarrow.array(list(clips), pyarrow.string())))
            return np.asarray(mine["vector"].to_pylist(), np.float32)
    return np.zeros((0, 0), np.float32)


def _template(faces: NDArray[np.float32], key: bytes, network: str, least_similarity: float, at: str) -> WithdrawnFace:
    from tavr_ingest.faces import make_face

    return make_face(list(faces), key, network, least_similarity, at)


def _key(root: Path, one: Candidate) -> bytes:
    """The key of the candidate's pseudonyms: committed, or a file of the main checkout."""
    name = str(one.record["params"].get("ingest", {}).get("person_key", ""))
    local = main_checkout(root) / name
    return read_file(root, one.commit, name) or (local.read_bytes() if name and local.is_file() else b"")


def _network(one: Candidate) -> str:
    """`folder_digest` of the identity network, by the record's own digests of its files."""
    files = {row["path"]: row["sha256"] for row in one.record["weights"] if row["path"].startswith(_IDENTITY)}
    return sha256_bytes(canonical_json({path.removeprefix(_IDENTITY): digest for path, digest in files.items()}))
