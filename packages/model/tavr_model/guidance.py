"""Classifier-free guidance with two scales (paper A.1), form A of choice 8: v0 + s_t (v_t - v0) + s_a (v_ta - v_t)."""

from collections.abc import Mapping

from tavr_model.conditions import Conditions
from tavr_model.shapes import Latents

BRANCHES = ("null", "text", "full")
"""The contexts of a guided step: nothing, text only, text and audio. References stay in all of them."""


def branch_weights(text_guidance: float, audio_guidance: float) -> dict[str, float]:
    """The weight of each branch's velocity in the guided one; one of weight zero need not be computed."""
    weights = (1 - text_guidance, text_guidance - audio_guidance, audio_guidance)
    return {name: weight for name, weight in zip(BRANCHES, weights, strict=True) if weight != 0}


def guidance_branches(conditions: Conditions) -> dict[str, Conditions]:
    """The conditions of each branch: the prompt and / or the driving audio nulled."""
    contexts = (conditions.drop(text=True, audio=True), conditions.drop(audio=True), conditions)
    return dict(zip(BRANCHES, contexts, strict=True))


def combine_guidance(found: Mapping[str, Latents], text_guidance: float, audio_guidance: float) -> Latents:
    """Guided velocity from the branches' velocities, those of weight zero left out; both scales 1 give `full`."""
    (like, *_) = found.values()
    null, text, full = (found[name] if name in found else like.new_zeros(()) for name in BRANCHES)
    return null + text_guidance * (text - null) + audio_guidance * (full - text)
