"""Where the person is: YOLO11-seg from ONNX through ultralytics (AGPL-3.0), which only this module imports."""

import atexit
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tavr_records.errors import InputError
from tavr_records.process import OFFLINE

PERSON = 0
"""COCO's class."""
MIN_CONFIDENCE = 0.25


class PersonSegmenter:
    """`directory/model.onnx`, a YOLO11-seg export of fixed input size; one thread, no network.

    Raises:
        InputError: the file is missing.
    """

    def __init__(self, directory: Path) -> None:
        path = directory / "model.onnx"
        if not path.is_file():
            raise InputError(f"{path}: missing; run the stage `weights`, which fetches and verifies the pinned weights")
        _keep_ultralytics_quiet()
        import onnxruntime
        import torch
        from ultralytics import YOLO

        threads = torch.get_num_threads()
        self._yolo: Any = YOLO(str(path), task="segment")
        self._predict([np.zeros((64, 64, 3), np.uint8)])
        # ultralytics resets torch's threads and lets onnxruntime take every core; results and neighbours want neither.
        torch.set_num_threads(threads)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        backend = self._yolo.predictor.model.backend
        backend.session = onnxruntime.InferenceSession(str(path), options, providers=backend.session.get_providers())

    def masks(self, frames: NDArray[np.uint8]) -> NDArray[np.bool_]:
        """Pixels of any person, bool [T, H, W]; frames are RGB uint8 [T, H, W, 3]."""
        masks = np.zeros(frames.shape[:3], np.bool_)
        for index, frame in enumerate(frames):
            result = self._predict([np.ascontiguousarray(frame[..., ::-1])])[0]
            if result.masks is not None:
                masks[index] = result.masks.data.cpu().numpy().astype(np.bool_).any(axis=0)
        return masks

    def _predict(self, images: list[NDArray[np.uint8]]) -> list[Any]:
        return self._yolo.predict(
            images, conf=MIN_CONFIDENCE, classes=[PERSON], retina_masks=True, verbose=False, save=False
        )


def _keep_ultralytics_quiet() -> None:
    """No telemetry, no installing, no log lines; its settings file goes to a folder that ends with the process."""
    for name, value in {**OFFLINE, "YOLO_VERBOSE": "false"}.items():
        os.environ.setdefault(name, value)
    if "YOLO_CONFIG_DIR" not in os.environ:
        folder = tempfile.TemporaryDirectory(prefix="ultralytics-")
        atexit.register(folder.cleanup)
        os.environ["YOLO_CONFIG_DIR"] = folder.name
