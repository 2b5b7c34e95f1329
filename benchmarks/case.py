"""One row of the table: two sides that do the same work, and what their ratio should be."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from benchmarks.method import Target, Timed

TOLERANCE = 1e-5


@dataclass(frozen=True)
class Drift:
    """How far a lossy way leads from the exact one.

    Attributes:
        latents: norm of the difference of final latents over the norm of the exact ones.
        psnr: of the decoded frames against the exact ones, in dB.
    """

    latents: float
    psnr: float


@dataclass(frozen=True)
class Case:
    """A measurement ready to run.

    Attributes:
        what: the work both sides do, with its size.
        anchor: what ours is compared with.
        analytic: the ratio of the two sides' FLOPs, counted on the sizes that are timed.
        target: what the measured ratio must reach.
        run_anchor: one timing of the anchor.
        run_ours: one timing of ours.
        drift: of a lossy way; None where both sides give the same.
    """

    what: str
    anchor: str
    analytic: float
    target: Target
    run_anchor: Timed
    run_ours: Timed
    drift: Drift | None = None


def seconds(work: Callable[[], object]) -> float:
    """Wall seconds of one call."""
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def same_output(anchor: torch.Tensor, ours: torch.Tensor) -> None:
    """Both sides computed the same.

    Raises:
        ValueError: an element differs by more than 1e-5.
    """
    difference = (anchor - ours).abs().max().item()
    if not difference <= TOLERANCE:
        raise ValueError(f"the two sides differ by {difference:.3g}; a ratio of different work says nothing")
