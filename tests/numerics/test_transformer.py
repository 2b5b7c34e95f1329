"""The packed transformer against what it must equal: Wan itself, a joint attention, its samples one by one."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from dense_model import dense_velocities
from tavr_model.attention import reference_self_attention
from tavr_model.conditions import Conditions, SampleInputs
from tavr_model.packing import RopeOffsets, plan_packing
from tavr_model.rope import gather_rotary
from tavr_model.transformer import TAVRTransformer3DModel
from tiny_models import sample, tavr, wan
from training_world import AUDIO, TEXT_DIM, TRANSFORMER

OFFSETS = RopeOffsets(0, 30, 31)


def _audio_arguments():
    return {"audio_layers": AUDIO[0], "audio_features": AUDIO[1], **TRANSFORMER}


@torch.no_grad()
def test_without_tavrs_conditions_it_equals_wan(tmp_path):
    base = wan()
    base.save_pretrained(tmp_path)
    model = TAVRTransformer3DModel.from_base(tmp_path, **_audio_arguments())
    z, text, t = torch.randn(2, 16, 3, 4, 6), torch.randn(2, 5, TEXT_DIM), torch.tensor([371.0, 902.0])
    padded = F.pad(text, (0, 0, 0, TRANSFORMER["text_len"] - 5))
    expected = base(z, t, padded).sample
    got = model([SampleInputs(z[i], Conditions(text[i])) for i in range(2)], t)
    assert (torch.stack(got) - expected).abs().max() <= 1e-5


@torch.no_grad()
def test_fresh_audio_layers_are_silent(tmp_path):
    wan().save_pretrained(tmp_path)
    model = TAVRTransformer3DModel.from_base(tmp_path, **_audio_arguments())
    inputs, t = sample(1), torch.tensor([500.0])
    deaf = replace(inputs, conditions=replace(inputs.conditions, driving_audio=None, ref_audio=None))
    assert torch.equal(model([inputs], t)[0], model([deaf], t)[0])


@torch.no_grad()
def test_audio_layers_are_drawn_from_the_seed(tmp_path):
    wan().save_pretrained(tmp_path)
    one, same, other = (TAVRTransformer3DModel.from_base(tmp_path, s, **_audio_arguments()) for s in (1, 1, 2))
    name = "blocks.0.audio_cross_attn.to_q.weight"
    assert torch.equal(one.state_dict()[name], same.state_dict()[name])
    assert not torch.equal(one.state_dict()[name], other.state_dict()[name])


def test_parameter_names_are_wans_plus_audio():
    added = {name for name in tavr().state_dict() if name not in wan().state_dict()}
    assert set(wan().state_dict()) <= set(tavr().state_dict())
    assert added
    assert all("audio" in name for name in added)


@torch.no_grad()
def test_packed_batch_equals_its_samples_alone():
    model = tavr()
    batch = [sample(1), sample(2, ref=3), sample(3, ref=0), sample(4, frames=2, height=6), sample(5, motion=2)]
    t = torch.tensor([10.0, 300.0, 500.0, 700.0, 999.0])
    for index, (inputs, packed) in enumerate(zip(batch, model(batch, t), strict=True)):
        alone = model([inputs], t[index : index + 1])[0]
        assert packed.shape == inputs.latents.shape
        assert (packed - alone).abs().max() <= 1e-5


@torch.no_grad()
@pytest.mark.parametrize("selected", [True, False])
def test_packed_equals_padded_and_masked(selected):
    """The whole network with every kind of token, against one that pads, masks and drops nothing."""
    batch = [sample(1), sample(2, ref=3), sample(3, ref=0), sample(4, frames=2, height=6), sample(5, motion=2)]
    prompt = torch.randn(4, TEXT_DIM)
    for index in (0, 4):
        batch[index] = replace(batch[index], conditions=replace(batch[index].conditions, ref_text_embeds=prompt))
    if not selected:
        batch = [replace(s, conditions=replace(s.conditions, ref_face_tokens=None, bg_tokens=None)) for s in batch]
    model, t = tavr(), torch.tensor([10.0, 300.0, 500.0, 700.0, 999.0])
    for got, expected in zip(model(batch, t), dense_velocities(model, batch, t), strict=True):
        assert expected.abs().max() > 0.1
        assert (got - expected).abs().max() <= 1e-5


@torch.no_grad()
def test_two_step_attention_equals_a_joint_one_under_the_block_mask():
    model = tavr()
    attn = model.blocks[0].attn1
    batch = [sample(1), sample(2, ref=3)]
    layout = plan_packing(batch, (1, 2, 2), OFFSETS)
    hidden = torch.randn(len(layout.patches), attn.inner_dim)
    rotary = gather_rotary(model.rope, layout.positions)
    got = reference_self_attention(attn, hidden, layout, rotary, [None, None])

    allowed = torch.zeros(len(hidden), len(hidden), dtype=torch.bool)
    start = 0
    for part in layout.samples:
        end, ref = start + part.total, start + part.main
        allowed[start:ref, start:end] = True
        allowed[ref:end, ref:end] = True
        start = end
    cos = rotary.real.repeat_interleave(2, -1)
    sin = rotary.imag.repeat_interleave(2, -1)
    heads = attn.processor(attn, hidden[None], None, allowed[None, None], (cos[None], sin[None]))[0]
    assert (got - heads).abs().max() <= 1e-5


@torch.no_grad()
def test_one_biased_padding_token_equals_all_padding_tokens():
    model = tavr()
    prompt, text_len = torch.randn(3, TEXT_DIM), TRANSFORMER["text_len"]
    inputs = SampleInputs(torch.randn(16, 1, 4, 4), Conditions(prompt))
    full = SampleInputs(inputs.latents, Conditions(F.pad(prompt, (0, 0, 0, text_len - 3))))
    t = torch.tensor([400.0])
    assert (model([inputs], t)[0] - model([full], t)[0]).abs().max() <= 1e-5


@torch.no_grad()
def test_reference_stream_sees_neither_noise_nor_time_nor_branch():
    """Its tokens after every block are the same whatever z, t, prompt and driving audio are: they can be cached."""
    model, first = tavr(), sample(7)
    second = SampleInputs(torch.randn_like(first.latents), first.conditions.drop(text=True, audio=True))
    seen: list[torch.Tensor] = []
    for inputs, time in ((first, 900.0), (second, 20.0)):
        hooks = [b.register_forward_hook(lambda *a: seen.append(a[-1])) for b in model.blocks]
        model([inputs], torch.tensor([time]))
        for hook in hooks:
            hook.remove()
    layout = plan_packing([first], (1, 2, 2), OFFSETS).samples[0]
    half = len(model.blocks)
    assert layout.reference > 0
    for one, two in zip(seen[:half], seen[half:], strict=True):
        assert (one[layout.main :] - two[layout.main :]).abs().max() <= 1e-6
        assert (one[: layout.target] - two[: layout.target]).abs().max() > 1e-3


@torch.no_grad()
def test_every_condition_matters():
    model, inputs, t = tavr(), sample(3), torch.tensor([500.0])
    plain, c = model([inputs], t)[0], inputs.conditions
    changes = [
        c.drop(text=True),
        c.drop(audio=True),
        replace(c, ref_latents=c.ref_latents + 1),
        replace(c, ref_audio=c.ref_audio + 1),
        replace(c, bg_latents=c.bg_latents + 1),
    ]
    for changed in changes:
        assert (model([SampleInputs(inputs.latents, changed)], t)[0] - plain).abs().max() > 1e-5


@torch.no_grad()
def test_dropped_tokens_do_not_matter_and_kept_ones_keep_their_place():
    model, inputs, t = tavr(), sample(3), torch.tensor([500.0])
    c = inputs.conditions
    pixels = c.ref_face_tokens.repeat_interleave(2, 1).repeat_interleave(2, 2)
    elsewhere = torch.where(pixels, c.ref_latents, c.ref_latents + 5)
    plain = model([inputs], t)[0]
    assert torch.equal(model([SampleInputs(inputs.latents, replace(c, ref_latents=elsewhere))], t)[0], plain)
    layout = plan_packing([inputs], (1, 2, 2), OFFSETS)
    rows = layout.positions[layout.samples[0].main :]
    expected = c.ref_face_tokens.nonzero() + torch.tensor([31, 0, 0])
    assert torch.equal(rows, expected)


@torch.no_grad()
def test_audio_is_heard_by_its_own_frame_only_at_first():
    """One block's audio attention changes the tokens of the frame whose window changed, and no other."""
    model, inputs = tavr(), sample(3)
    c = inputs.conditions
    louder = c.driving_audio.clone()
    louder[1] += 3
    outs = []
    for audio in (c.driving_audio, louder):
        hidden = []
        hook = model.blocks[0].ffn.register_forward_hook(lambda _m, i, _o, h=hidden: h.append(i[0]))
        model([SampleInputs(inputs.latents, replace(c, driving_audio=audio))], torch.tensor([500.0]))
        hook.remove()
        outs.append(hidden[0])
    changed = (outs[0] - outs[1]).abs().amax(1) > 1e-6
    layout = plan_packing([inputs], (1, 2, 2), OFFSETS).samples[0]
    per_frame = changed[: layout.target].view(3, -1)
    assert per_frame[1].all()
    assert not per_frame[0].any()
    assert not per_frame[2].any()
    assert not changed[layout.target :].any()


@torch.no_grad()
@pytest.mark.parametrize(("size", "shards"), [("10GB", 1), ("40KB", 4)])
def test_saves_and_loads_itself(tmp_path, size, shards):
    model, inputs, t = tavr(), sample(1), torch.tensor([500.0])
    model.save_pretrained(tmp_path, max_shard_size=size)
    files = sorted(path.name for path in tmp_path.iterdir())
    assert len([name for name in files if name.endswith(".safetensors")]) >= shards
    assert ("diffusion_pytorch_model.safetensors.index.json" in files) == (shards > 1)
    again = TAVRTransformer3DModel.from_pretrained(tmp_path)
    assert torch.equal(model([inputs], t)[0], again([inputs], t)[0])
    base, again = again.config, TAVRTransformer3DModel.from_pretrained(tmp_path, torch_dtype=torch.float32).config
    assert {k: v for k, v in base.items() if not k.startswith("_")} == {
        k: v for k, v in again.items() if not k.startswith("_")
    }


@torch.no_grad()
@pytest.mark.parametrize("origin", ["model", "base"])
def test_bfloat16_weights_keep_in_float32_what_must_stay(tmp_path, origin):
    """Norms, the audio's too, modulation tables, time embedding and rotary tables; the rest is half."""
    saved = tavr()
    if origin == "base":
        wan().save_pretrained(tmp_path / "base")
        saved = TAVRTransformer3DModel.from_base(tmp_path / "base", **_audio_arguments())
    saved.save_pretrained(tmp_path)
    model = TAVRTransformer3DModel.from_pretrained(tmp_path, torch_dtype=torch.bfloat16)
    whole = ("norm2.", "norm_audio.", "scale_shift_table", "time_embedder.")
    dtypes = {name: parameter.dtype for name, parameter in model.named_parameters()}
    kept = {name for name, dtype in dtypes.items() if dtype == torch.float32}
    assert kept == {name for name in dtypes if any(part in name for part in whole)}
    assert any("norm_audio" in name for name in kept)
    assert set(dtypes.values()) == {torch.float32, torch.bfloat16}
    assert torch.equal(model.rope.freqs_cos, saved.rope.freqs_cos)
    t = torch.tensor([100.0, 800.0])
    batch = [sample(1), sample(2)]
    for exact, lower in zip(saved(batch, t), model(batch, t), strict=True):
        assert (exact - lower.float()).norm() <= 0.03 * exact.norm()


def test_gradient_checkpointing_gives_the_same_gradient():
    grads = []
    for checkpointing in (False, True):
        model = tavr().train()
        if checkpointing:
            model.enable_gradient_checkpointing()
        model([sample(1), sample(2)], torch.tensor([100.0, 800.0]))[0].square().sum().backward()
        grads.append(torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]))
    assert (grads[0] - grads[1]).norm() <= 1e-6 * grads[0].norm()


@torch.no_grad()
def test_bfloat16_stays_close():
    model, batch, t = tavr(), [sample(1), sample(2)], torch.tensor([100.0, 800.0])
    exact = model(batch, t)
    with torch.autocast("cpu", torch.bfloat16):
        lower = model(batch, t)
    for a, b in zip(exact, lower, strict=True):
        assert (a - b.float()).norm() <= 0.03 * a.norm()


def test_a_position_beyond_the_rotary_table_is_refused():
    model, inputs = tavr(), sample(1, ref=12)
    with pytest.raises(ValueError, match="rope_max_seq_len 40"):
        model([inputs], torch.tensor([1.0]))


def test_a_prompt_longer_than_text_len_is_refused():
    model = tavr()
    inputs = SampleInputs(torch.randn(16, 1, 4, 4), Conditions(torch.randn(13, TEXT_DIM)))
    with pytest.raises(ValueError, match="13 tokens exceeds text_len 12"):
        model([inputs], torch.tensor([1.0]))


def test_rotary_depends_on_distance_only():
    """Shifting all positions of a sequence leaves attention as it is (facts: RoPE is shift-invariant)."""
    model = tavr()
    attn, inputs = model.blocks[0].attn1, sample(3, ref=0)
    inputs = SampleInputs(inputs.latents, Conditions(inputs.conditions.text_embeds))
    layouts = [plan_packing([inputs], (1, 2, 2), RopeOffsets(offset, 30, 31)) for offset in (0, 9)]
    hidden = torch.randn(len(layouts[0].patches), attn.inner_dim)
    turned = [gather_rotary(model.rope, layout.positions) for layout in layouts]
    one, two = (reference_self_attention(attn, hidden, x, r, [None]) for x, r in zip(layouts, turned, strict=True))
    assert (one - two).abs().max() <= 1e-5
