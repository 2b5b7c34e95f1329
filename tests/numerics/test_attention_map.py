"""The exported attention against a softmax written out, with and without the cached reference stream."""

from dataclasses import replace

import torch
from tavr_model.attention_map import AttentionProbe
from tiny_models import sample, tavr


def test_shares_are_those_of_a_softmax_written_out():
    query, key = torch.randn(6, 2, 8), torch.randn(11, 2, 8)
    probe = AttentionProbe(0)
    probe.add(query, key, 3, (2, 0, 4))
    weights = torch.einsum("qhd,khd->hqk", query, key).div(8**0.5).softmax(-1).mean(0)
    expected = torch.stack([weights[:, 5:7].sum(1), torch.zeros(6), weights[:, 7:].sum(1)], 1)
    assert torch.allclose(probe.map(), expected.view(3, 2, 3).mean(1), atol=1e-6)


@torch.no_grad()
def test_blocks_are_averaged_and_the_cache_shows_the_same():
    model, batch = tavr(), [sample(1), sample(2, ref=3)]
    shown = []
    caches = model.encode_references([inputs.conditions for inputs in batch])
    for references in ((None, None), caches):
        probe = AttentionProbe(1)
        inputs = [replace(one, reference=cache) for one, cache in zip(batch, references, strict=True)]
        model(inputs, torch.tensor([300.0, 700.0]), probe=probe)
        shown.append(probe.map())
    assert shown[0].shape == (3, 3)
    assert (shown[0] - shown[1]).abs().max() <= 1e-6
    assert (shown[0].sum(1) < 1).all()


@torch.no_grad()
def test_the_frame_that_is_copied_into_the_target_is_the_one_it_looks_at():
    """With identity-like attention a target frame finds its own copy among the reference frames."""
    probe = AttentionProbe(0)
    frames = torch.randn(3, 4, 1, 16) * 4
    probe.add(frames.flatten(0, 1), torch.cat([torch.zeros(2, 1, 16), frames.flatten(0, 1)]), 3, (4, 4, 4))
    assert probe.map().argmax(dim=1).tolist() == [0, 1, 2]
