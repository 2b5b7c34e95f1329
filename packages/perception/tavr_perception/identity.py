"""Who is on screen: insightface's detector and ArcFace on every frame, and the Chamfer similarity of two clips.

A directory holds `config.json` {"pack", "det_size" [width, height], "det_thresh"} and `models/<pack>/*.onnx`, one of
them an SCRFD detector with keypoints and one an ArcFace network, as insightface lays out its own packs.
"""

import json
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tavr_records.errors import InputError

REMEDY = "run the stage `weights`, which fetches and verifies the pinned weights"


@dataclass(frozen=True)
class FaceEmbeddings:
    """The largest, most central face of each frame.

    vectors: float32 [T, D], unit length, zero where no face; found: bool [T]; boxes: float32 [T, 4] xyxy in pixels of
    the frame, NaN where no face.
    """

    vectors: NDArray[np.float32]
    found: NDArray[np.bool_]
    boxes: NDArray[np.float32]


@dataclass(frozen=True)
class ChamferSimilarity:
    """Cosine similarity of two sets of faces; `value` is the mean of both directions (paper: ID_ref, ID_target)."""

    value: float
    a_to_b: float
    b_to_a: float


@dataclass(frozen=True)
class _PackConfig:
    pack: str
    det_size: tuple[int, int]
    det_thresh: float


class FaceIdentity:
    """insightface's `FaceAnalysis` on local files, one thread, detector size pinned (its default changes by version).

    Raises:
        InputError: the directory lacks a file, or the pack lacks the detector or the recogniser.
    """

    def __init__(self, directory: Path) -> None:
        config = _read_config(directory)
        models = directory / "models" / config.pack
        if not sorted(models.glob("*.onnx")):
            raise InputError(f"{models}: no *.onnx of pack {config.pack!r}; {REMEDY}")
        import onnxruntime
        from insightface.app import FaceAnalysis

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        try:
            self._app: Any = FaceAnalysis(
                name=str(models), allowed_modules=["detection", "recognition"], sess_options=options
            )
        except AssertionError as error:
            raise InputError(f"{models}: no detector among the *.onnx of pack {config.pack!r}; {REMEDY}") from error
        if "recognition" not in self._app.models:
            raise InputError(f"{models}: no ArcFace network among the *.onnx of pack {config.pack!r}; {REMEDY}")
        self._app.prepare(ctx_id=-1 if _only_cpu() else 0, det_thresh=config.det_thresh, det_size=config.det_size)
        self.dimension = int(self._app.models["recognition"].output_shape[1])

    def embed(self, frames: NDArray[np.uint8]) -> FaceEmbeddings:
        """Detect, align and embed one face a frame; frames are RGB uint8 [T, H, W, 3]."""
        count = len(frames)
        vectors = np.zeros((count, self.dimension), np.float32)
        found = np.zeros(count, np.bool_)
        boxes = np.full((count, 4), np.nan, np.float32)
        for index, frame in enumerate(frames):
            with warnings.catch_warnings():
                # insightface 2.1 aligns through a call that scikit-image 0.26 has renamed.
                warnings.simplefilter("ignore", FutureWarning)
                faces = self._app.get(np.ascontiguousarray(frame[..., ::-1]), max_num=1)
            if faces:
                vectors[index] = faces[0].normed_embedding
                boxes[index] = faces[0].bbox
                found[index] = True
        return FaceEmbeddings(vectors, found, boxes)


def chamfer_similarity(a: FaceEmbeddings, b: FaceEmbeddings) -> ChamferSimilarity:
    """1/2 [mean_i max_j cos(a_i, b_j) + mean_j max_i cos(a_i, b_j)] over frames with a face (paper, evaluation).

    A clip without any face resembles nobody: every value is 0.
    """
    if not a.found.any() or not b.found.any():
        return ChamferSimilarity(0.0, 0.0, 0.0)
    cosines = a.vectors[a.found].astype(np.float64) @ b.vectors[b.found].astype(np.float64).T
    cosines = cosines.clip(-1, 1)  # unit vectors in float32 are a little longer or shorter
    a_to_b = float(cosines.max(axis=1).mean())
    b_to_a = float(cosines.max(axis=0).mean())
    return ChamferSimilarity((a_to_b + b_to_a) / 2, a_to_b, b_to_a)


def _read_config(directory: Path) -> _PackConfig:
    path = directory / "config.json"
    try:
        values = json.loads(path.read_text())
        width, height = values["det_size"]
        return _PackConfig(str(values["pack"]), (int(width), int(height)), float(values["det_thresh"]))
    except FileNotFoundError as error:
        raise InputError(f"{path}: missing; {REMEDY}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: needs pack, det_size [width, height], det_thresh ({error!r}); {REMEDY}") from error


def _only_cpu() -> bool:
    import onnxruntime

    return "CUDAExecutionProvider" not in onnxruntime.get_available_providers()
