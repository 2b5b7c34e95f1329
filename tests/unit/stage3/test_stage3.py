"""Stage3: samples share time and noise, variants, the start at ln 2, and the stages run in a row."""

import math
import shutil
from dataclasses import replace

import pytest
import torch
from tavr_records.errors import InputError
from tavr_records.manifest import read_manifest
from tavr_records.params import structure
from tavr_records.schemas import Consumed, PreferencePair
from tavr_stage3 import objective as objective_module
from tavr_stage3.config import Stage3Config
from tavr_stage3.objective import check_choices, preference_objective
from tavr_stage3.pairs import GenerationStore, draw_preference_sample, kept_pairs
from tavr_stage3.stage import stage3
from tavr_training.dataset import LatentStore
from tavr_training.streams import stream
from tiny_models import tavr
from torch.autograd.graph import saved_tensors_hooks
from training_world import build_world, stage3_section


def _config(**preference) -> Stage3Config:
    section = stage3_section()
    section["preference"].update(preference)
    return structure(Stage3Config, section, "stage3")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    root = build_world(tmp_path_factory.mktemp("world"))
    tavr().save_pretrained(root / "data/stage2/model")
    return root


def _samples(root, config, step=0):
    store, generations = LatentStore(root / "data/latents"), GenerationStore(root / "data/preferences")
    pairs = read_manifest(root / "data/preferences/manifest.parquet", PreferencePair)
    return pairs, [
        draw_preference_sample(
            store, generations, pair, config, stream(0, "stage3", step, slot), ("stage3", step, slot)
        )
        for slot, pair in enumerate(pairs)
    ]


def test_winner_and_loser_share_time_and_noise(world):
    pairs, samples = _samples(world, _config())
    generations = GenerationStore(world / "data/preferences")
    for pair, sample in zip(pairs, samples, strict=True):
        assert sample.winner.t == sample.loser.t == sample.anchor.t
        assert torch.allclose(sample.winner.noise, sample.loser.noise, atol=1e-5)
        assert torch.allclose(sample.winner.latents, generations.latents(pair, "winner"), atol=1e-5)
        assert torch.allclose(sample.loser.latents, generations.latents(pair, "loser"), atol=1e-5)
        assert torch.equal(sample.anchor.z_t, sample.winner.z_t)
        assert sample.consumed.segment == f"preferences/{pair.preference_id}"


def test_variants(world):
    store = LatentStore(world / "data/latents")
    pairs, (real, *_) = _samples(world, _config(variant="real_winner"))
    truth = store.tensor(pairs[0].target_clip_id, "target0/latents").float()
    assert torch.allclose(real.winner.latents, truth, atol=1e-5)
    assert real.foreground_mask is not None
    _, (plain, *_) = _samples(world, _config(variant="unmasked"))
    assert plain.foreground_mask is None
    _, (anchored, *_) = _samples(world, _config(anchor="target"))
    assert torch.allclose(anchored.anchor.latents, truth, atol=1e-5)


@pytest.mark.parametrize(("name", "value"), [("variant", "best"), ("anchor", "loser"), ("reduction", "median")])
def test_unknown_choices_are_refused(name, value):
    with pytest.raises(InputError, match=f"stage3.preference.{name} is '{value}'"):
        check_choices(_config(**{name: value}).preference)


@pytest.mark.parametrize("changes", [{}, {"variant": "unmasked"}, {"anchor": "target"}, {"reduction": "masked_mean"}])
def test_it_starts_at_ln_2(world, changes):
    config = _config(**changes)
    _, samples = _samples(world, config)
    model = tavr()
    terms = preference_objective(tavr(), config.preference)(model, samples)
    assert float(terms["dpo"].detach()) == pytest.approx(math.log(2), abs=1e-6)
    assert float(terms["loss"].detach()) == pytest.approx(float(terms["mse"].detach()) + 2 * math.log(2), abs=1e-5)


def test_two_different_models_are_refused_at_the_start(world):
    config = _config()
    _, samples = _samples(world, config)
    objective = preference_objective(tavr(seed=5), config.preference)
    with pytest.raises(InputError, match="not ln 2"):
        objective(tavr(), samples)
    later = [replace(s, consumed=replace(s.consumed, step=1)) for s in samples]
    assert objective(tavr(), later)["loss"].isfinite()


def test_only_the_trained_model_gets_a_gradient(world):
    config = _config()
    _, samples = _samples(world, config)
    model, frozen_model = tavr(), tavr()
    preference_objective(frozen_model, config.preference)(model, samples)["loss"].backward()
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())
    assert all(p.grad is None for p in frozen_model.parameters())


@pytest.mark.parametrize("changes", [{}, {"variant": "unmasked"}, {"anchor": "target"}])
def test_the_split_backward_gives_the_plain_gradient_and_holds_one_graph(world, monkeypatch, changes):
    config = _config(**changes)
    _, samples = _samples(world, config, step=1)

    def run(split):
        """(gradient, bytes that the graph holds before the backward pass)."""
        model, kept = tavr(seed=5).train(), []
        with saved_tensors_hooks(lambda tensor: kept.append(tensor.nbytes) or tensor, lambda tensor: tensor):
            loss = preference_objective(tavr(), config.preference, split_backward=split)(model, samples)["loss"]
        held = sum(kept)
        loss.backward()
        return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]), held

    (packed, held), (split, held_split) = run(False), run(True)
    assert held_split < 0.05 * held, "no sample's graph is held before its turn"
    monkeypatch.setattr(objective_module, "checkpoint", lambda function, *given, **_: function(*given))
    plain, _ = run(True)
    assert plain.norm() > 0
    assert (split - plain).norm() <= 1e-6 * plain.norm()
    # A packed batch rounds otherwise, and beta / 2 = 250 multiplies that in the coefficient of the preference.
    assert (split - packed).norm() <= 1e-4 * packed.norm()


def test_quarantined_pairs_are_left_out(world):
    pairs = read_manifest(world / "data/preferences/manifest.parquet", PreferencePair)
    assert len(kept_pairs(pairs, {pairs[0].target_clip_id})) == len(pairs) - 1
    with pytest.raises(InputError, match="no pair left"):
        kept_pairs(pairs, {p.preference_id for p in pairs})


def test_the_stage_prefers_the_winners(world, monkeypatch):
    monkeypatch.setenv("TAVR_WORK", str(world / "work"))
    section = stage3_section()
    section["optimizer"].update(steps=6, learning_rate=3e-4)
    config = structure(Stage3Config, section, "stage3")
    stage3(config, world)
    out = world / "data/stage3"
    lines = [line.split(",") for line in (out / "losses.csv").read_text().splitlines()]
    margin = lines[0].index("reward_margin")
    assert float(lines[1][margin]) == 0.0
    assert float(lines[-1][margin]) > 0.0
    rows = read_manifest(out / "ledger.parquet", Consumed)
    assert len(rows) == 12
    assert all(row.segment.startswith("preferences/") for row in rows)
    before = (out / "model/diffusion_pytorch_model.safetensors").read_bytes()
    shutil.rmtree(world / "work")
    stage3(config, world)
    assert (out / "model/diffusion_pytorch_model.safetensors").read_bytes() == before
