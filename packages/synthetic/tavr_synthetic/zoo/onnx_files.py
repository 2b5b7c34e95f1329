"""Write ONNX files that hold the graph and its weights and nothing of the machine that made them."""

from pathlib import Path
from typing import Any

import onnx


def save_plain(model: Any, path: Path, metadata: dict[str, str] | None = None) -> None:
    """Save without dates, source paths or exporter notes, so that the same training gives the same bytes."""
    for node in model.graph.node:
        node.doc_string = ""
        del node.metadata_props[:]
    for value in (*model.graph.input, *model.graph.output, *model.graph.value_info, *model.graph.initializer):
        value.doc_string = ""
        del value.metadata_props[:]
    del model.graph.metadata_props[:]
    del model.functions[:]
    del model.metadata_props[:]
    model.doc_string = ""
    for key, value in sorted((metadata or {}).items()):
        model.metadata_props.add(key=key, value=value)
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString(deterministic=True))
