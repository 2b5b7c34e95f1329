"""Classifier-free guidance with two scales (paper A.1), form A of choice 8: v0 + s_t (v_t - v0) + s_a (v_ta - v_t)."""

from dataclasses import dataclass

from torch import Tensor

from tavr_model.conditions import Conditions


@dataclass(frozen=True)
class GuidanceBranches:
    """The three contexts of a guided step: nothing, text only, text and audio. References stay in all of them."""

    null: Conditions
    text: Conditions
    full: Conditions


def guidance_branches(conditions: Conditions) -> GuidanceBranches:
    """Null the prompt and / or the driving audio."""
    return GuidanceBranches(conditions.drop(text=True, audio=True), conditions.drop(audio=True), conditions)


def combine_guidance(null: Tensor, text: Tensor, full: Tensor, text_guidance: float, audio_guidance: float) -> Tensor:
    """Guided velocity from the three branches' velocities; both scales 1 give `full`."""
    return null + text_guidance * (text - null) + audio_guidance * (full - text)
