"""The attention from generated to reference frames as a picture (paper Figure 1a)."""

from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from tavr_records.atomic import atomic_file
from tavr_records.media import Frames

MOST_ROWS = 12


def draw_attention(path: Path, attention: NDArray[np.float32], frames: Frames, reference: Frames) -> None:
    """Write a png: a row a generated latent frame (at most twelve, evenly), a column a reference latent frame.

    Args:
        path: of the png.
        attention: shares [T', R'].
        frames: the generated video [T, H, W, 3].
        reference: the reference video [R, H, W, 3].
    """
    rows = np.unique(np.linspace(0, len(attention) - 1, min(MOST_ROWS, len(attention))).round().astype(int))
    columns = attention.shape[1]
    figure = Figure(figsize=(1.6 * (columns + 1), 1.0 * (len(rows) + 1)), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(rows) + 1, columns + 1, squeeze=False)
    for axis in axes.flat:
        axis.set_xticks([])
        axis.set_yticks([])
    axes[0][0].axis("off")
    axes[0][0].text(0.5, 0.5, "generated: rows\nreference: columns", ha="center", va="center", fontsize=7)
    for column in range(columns):
        shown = min(4 * column, len(reference) - 1)
        axes[0][column + 1].imshow(reference[shown])
        axes[0][column + 1].set_title(f"frame {shown}", fontsize=7)
    brightest = float(attention.max()) or 1.0
    for line, row in enumerate(rows, start=1):
        shown = min(4 * int(row), len(frames) - 1)
        axes[line][0].imshow(frames[shown])
        axes[line][0].set_ylabel(f"{shown}", fontsize=7)
        for column in range(columns):
            share = float(attention[row, column])
            axes[line][column + 1].imshow([[share]], vmin=0, vmax=brightest, cmap="viridis", aspect="auto")
            axes[line][column + 1].text(
                0, 0, f"{100 * share:.1f} %", ha="center", va="center", color="white", fontsize=7
            )
    with atomic_file(path) as temporary:
        figure.savefig(temporary, format="png", metadata={"Software": None})
