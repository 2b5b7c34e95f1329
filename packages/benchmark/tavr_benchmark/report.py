"""The benchmark page: tables with intervals, then every pair side by side; one file, readable offline."""

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jinja2 import Environment, PackageLoader
from numpy.typing import NDArray
from PIL import Image
from tavr_records.atomic import write_bytes
from tavr_records.media import read_video
from tavr_records.schemas import Clip, ClipPair

from tavr_benchmark.statistics import METRICS

LABELS = {
    "id_ref": "ID_ref ↑",
    "id_target": "ID_target ↑",
    "sync_c": "Sync-C ↑",
    "sync_d": "Sync-D ↓",
    "vq": "VQ ↑",
    "mq": "MQ ↑",
    "ta": "TA ↑",
    "overall": "Overall ↑",
}


def still(frame: NDArray[np.uint8]) -> str:
    """One frame [H, W, 3] as a PNG data URI."""
    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, format="PNG", optimize=False)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def middle(path: Path) -> str:
    """The middle frame of a video as a data URI."""
    frames, _ = read_video(path)
    return still(frames[len(frames) // 2])


def write_report(  # noqa: PLR0913 - the page shows this many things
    path: Path,
    metrics: dict[str, Any],
    scores: pd.DataFrame,
    root: Path,
    clips: dict[str, Clip],
    pairs: dict[str, ClipPair],
) -> None:
    """Write the page; worst pairs of the candidate first."""
    candidate = metrics["candidate"]
    table: Any = scores
    order = table[table["method"] == candidate].groupby("pair_id")["id_target"].mean().sort_values(kind="stable").index
    methods = sorted(set(table["method"]))
    rows: list[dict[str, Any]] = []
    for pair_id in order:
        pair = pairs[pair_id]
        shots = table[table["pair_id"] == pair_id].drop_duplicates("method").set_index("method")
        rows.append(
            {
                "pair_id": pair_id,
                "ref": middle(root / "data/ingest" / clips[pair.ref_clip_id].path),
                "target": middle(root / "data/ingest" / clips[pair.target_clip_id].path),
                "caption": clips[pair.target_clip_id].caption,
                "shots": [
                    {
                        "method": method,
                        "image": middle(root / "data/benchmark" / shots.loc[method, "path"]),
                        "video": f"../../data/benchmark/{shots.loc[method, 'path']}",
                        "id_target": float(shots.loc[method, "id_target"]),
                    }
                    for method in methods
                ],
            }
        )
    environment = Environment(loader=PackageLoader("tavr_benchmark"), autoescape=True)
    page = environment.get_template("report.html").render(
        metrics=metrics,
        methods=methods,
        labels=LABELS,
        names=METRICS,
        rows=rows,
        versus=metrics[f"versus_{metrics['baseline']}"],
    )
    write_bytes(path, page.encode("utf-8"))
