"""diffusers' attention backends on the packed ragged attention: those that run on a CPU agree, the others say why not."""

import pytest
import torch
from diffusers.models.attention_dispatch import AttentionBackendName, _AttentionBackendRegistry
from diffusers.models.transformers.transformer_wan import WanAttention
from tavr_model import attention
from tiny_models import sample, tavr

BATCH = [sample(1), sample(2, ref=3), sample(3, ref=0), sample(5, motion=2)]
TIMES = torch.tensor([10.0, 300.0, 500.0, 999.0])


@pytest.fixture(autouse=True)
def _default_backend():
    """Choosing one for a model also sets diffusers' own default for the process."""
    before = _AttentionBackendRegistry._active_backend
    yield
    _AttentionBackendRegistry.set_active_backend(before)


def tavr_with(backend):
    model = tavr().train()
    if backend is not None:
        model.set_attention_backend(backend)
    return model


def gradient(model):
    sum(velocity.square().sum() for velocity in model(BATCH, TIMES)).backward()
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


@torch.no_grad()
@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile:UserWarning")
@pytest.mark.parametrize("backend", ["native", "_native_math", "_native_flash", "flex"])
def test_backends_agree_on_a_cpu(backend):
    for one, two in zip(tavr_with(backend)(BATCH, TIMES), tavr_with(None)(BATCH, TIMES), strict=True):
        assert (one - two).abs().max() <= 1e-5


@pytest.mark.parametrize("backend", ["native", "_native_math", "_native_flash"])
def test_gradients_agree_on_a_cpu(backend):
    """Torch's flex attention has no backward pass on a CPU."""
    expected = gradient(tavr_with(None))
    assert (gradient(tavr_with(backend)) - expected).norm() <= 1e-5 * expected.norm()


@torch.no_grad()
def test_every_attention_goes_through_the_chosen_one_but_those_with_a_bias(monkeypatch):
    asked = []

    def dispatch(query, key, value, bias, *, backend):
        asked.append((backend, bias is not None))
        return attention_before(query, key, value, bias, backend=None)

    attention_before = attention.dispatch_attention_fn
    monkeypatch.setattr(attention, "dispatch_attention_fn", dispatch)
    model = tavr()
    model.set_attention_backend("_native_math")
    model(BATCH, TIMES)
    assert {backend for backend, biased in asked if not biased} == {AttentionBackendName._NATIVE_MATH}
    assert {backend for backend, biased in asked if biased} == {AttentionBackendName.NATIVE}
    asked.clear()
    model.reset_attention_backend()
    model(BATCH, TIMES)
    assert {backend for backend, biased in asked if not biased} == {None}


@pytest.mark.parametrize(
    ("backend", "error", "told"),
    [
        ("flash", RuntimeError, "'flash' is not usable because of missing package"),
        ("sage", RuntimeError, "'sage' is not usable because of missing package"),
        ("xformers", RuntimeError, "'xformers' is not usable because of missing package"),
        ("flesh", ValueError, "backend='flesh'` must be one of the following"),
    ],
)
def test_a_backend_that_is_not_there_is_refused_when_it_is_chosen(backend, error, told):
    model = tavr()
    with pytest.raises(error, match=told):
        model.set_attention_backend(backend)
    assert all(m.processor._attention_backend is None for m in model.modules() if isinstance(m, WanAttention))
