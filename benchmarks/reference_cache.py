"""The reference stream computed once a clip, with and without token selection, against computing it in every pass.

Seconds of a clip are 24 steps of three guidance branches; on our side with the pass over the reference before them:
24 * step + encode. One step and one encoding are timed, all others repeat the same work.
"""

import torch
from tavr_model.conditions import SampleInputs
from tavr_model.cost import ClipCost, Selection, clip_cost, meta_transformer
from tavr_model.transformer import TAVRTransformer3DModel

from benchmarks.case import Case, same_output, seconds
from benchmarks.method import Target, Timed
from benchmarks.scale_model import (
    SELECTED,
    STEPS,
    WHOLE,
    guided_step,
    scale_clip,
    scale_config,
    scale_model,
    scale_sample,
)

OF_ANALYTIC = 0.97
SELECTION_TARGETS = {20: 1.25, 48: 1.5}
LONGER_TARGET = 1.06
EVERY_PASS = "reference stream in every pass, all tokens"  # noqa: S105 - a pass of the network


def analytic_cost(ref_frames: int, selection: Selection) -> ClipCost:
    """FLOPs of a clip of the scale model, cached and not, from the layout that is timed."""
    return clip_cost(meta_transformer(scale_config()), scale_clip(ref_frames), selection, STEPS)


def uncached_clip(model: TAVRTransformer3DModel, sample: SampleInputs) -> Timed:
    """Seconds of a clip whose every pass computes the reference stream in every branch."""
    return lambda: STEPS * seconds(lambda: guided_step(model, sample, None))


def cached_clip(model: TAVRTransformer3DModel, sample: SampleInputs) -> Timed:
    """Seconds of a clip whose reference stream is computed once."""
    (reference,) = model.encode_references([sample.conditions])

    def run() -> float:
        encode = seconds(lambda: model.encode_references([sample.conditions]))
        return STEPS * seconds(lambda: guided_step(model, sample, reference)) + encode

    return run


def check_cached(model: TAVRTransformer3DModel, sample: SampleInputs) -> None:
    """The step that reads the cache gives what the uncached step gives.

    Raises:
        ValueError: it does not.
    """
    (reference,) = model.encode_references([sample.conditions])
    plain, cached = guided_step(model, sample, None), guided_step(model, sample, reference)
    same_output(torch.stack(plain), torch.stack(cached))


def cache_case(ref_frames: int) -> Case:
    """Cache against no cache, all tokens kept on both sides."""
    model, cost = scale_model(), analytic_cost(ref_frames, WHOLE)
    sample = scale_sample(model, ref_frames, WHOLE)
    check_cached(model, sample)
    return Case(
        what=f"clip with {ref_frames} reference frames: cached reference stream",
        anchor=EVERY_PASS,
        analytic=cost.cache_speedup,
        target=Target(OF_ANALYTIC * cost.cache_speedup),
        run_anchor=uncached_clip(model, sample),
        run_ours=cached_clip(model, sample),
    )


def selection_case(ref_frames: int) -> Case:
    """Selection and cache against neither, the path a user would write."""
    model = scale_model()
    whole, selected = (scale_sample(model, ref_frames, selection) for selection in (WHOLE, SELECTED))
    check_cached(model, selected)
    return Case(
        what=f"clip with {ref_frames} reference frames: selected tokens, cached",
        anchor=EVERY_PASS,
        analytic=analytic_cost(ref_frames, WHOLE).clip / analytic_cost(ref_frames, SELECTED).cached_clip,
        target=Target(SELECTION_TARGETS[ref_frames]),
        run_anchor=uncached_clip(model, whole),
        run_ours=cached_clip(model, selected),
    )


def longer_case() -> Case:
    """What going from 20 to 48 reference frames costs with selection and cache."""
    model = scale_model()
    short, long = (scale_sample(model, ref_frames, SELECTED) for ref_frames in (20, 48))
    return Case(
        what="clip with 48 reference frames: selected tokens, cached",
        anchor="the same with 20 reference frames",
        analytic=analytic_cost(48, SELECTED).cached_clip / analytic_cost(20, SELECTED).cached_clip,
        target=Target(LONGER_TARGET, growth=True),
        run_anchor=cached_clip(model, short),
        run_ours=cached_clip(model, long),
    )
