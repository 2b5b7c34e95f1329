"""TAVR on Wan2.1: transformer, attention, token selection, pipeline, cost.

diffusers looks up a saved pipeline's classes by name in this package, so they are found here, imported when asked for.
"""

from importlib import import_module
from typing import Any

_CLASSES = {"TAVRTransformer3DModel": "transformer", "TAVRPipeline": "pipeline"}


def __getattr__(name: str) -> Any:
    if name not in _CLASSES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_CLASSES[name]}"), name)
