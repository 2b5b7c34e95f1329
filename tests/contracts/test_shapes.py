"""Every public function of the network and of its training says the shapes it takes; wrong ones fail any test."""

import numpy as np
import pytest
import torch
from jaxtyping import Float, TypeCheckError
from signatures import REFUSE_THEMSELVES, bare_arrays, has_shape, public_callables
from tavr_model.conditions import Conditions
from tavr_model.token_selection import background_tokens
from tavr_model.transformer import modulate
from tavr_training.masked_dpo import PreferenceErrors

PACKAGES = ("tavr_model", "tavr_training")


@pytest.mark.parametrize("package", PACKAGES)
def test_no_public_signature_has_a_tensor_without_its_shape(package):
    found = {name: bare for name, value in public_callables(package) if (bare := bare_arrays(value))}
    assert found == {}


def test_there_are_many_and_the_exceptions_exist():
    named = [(name, value) for package in PACKAGES for name, value in public_callables(package)]
    shaped = {
        name for name, value in named if any(has_shape(hint) for hint in getattr(value, "__annotations__", {}).values())
    }
    assert len(shaped) >= 60
    assert all(any(name.endswith(f".{refusing}") for name in shaped) for refusing in REFUSE_THEMSELVES)


def test_a_bare_tensor_would_be_found():
    def function(kept: Float[torch.Tensor, "n"], bare: list[torch.Tensor | None]) -> tuple[int, np.ndarray]: ...  # noqa: F821

    assert bare_arrays(function) == ["bare", "return"]


def test_wrong_shapes_fail_at_the_call():
    """The import hook of tests/conftest.py is at work: functions, methods' results and dataclasses."""
    row = torch.zeros(1, 4)
    assert modulate(torch.zeros(3, 4), row, row, [(3, 0)]).shape == (3, 4)
    with pytest.raises(TypeCheckError, match="normed"):
        modulate(torch.zeros(3, 5), row, row, [(3, 0)])
    with pytest.raises(TypeCheckError, match="hole"):
        background_tokens(np.zeros((16, 16), np.uint8))
    with pytest.raises(TypeCheckError, match="bg_latents"):
        Conditions(torch.zeros(2, 8), bg_latents=torch.zeros(16, 4, 6))
    with pytest.raises(TypeCheckError, match="loser"):
        PreferenceErrors(torch.zeros(2), torch.zeros(3), torch.zeros(2), torch.zeros(2))
