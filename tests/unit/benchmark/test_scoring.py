"""Which model is loaded how, and which frames and sound a generation is judged against."""

import pytest
import torch
from diffusers import WanTransformer3DModel
from tavr_benchmark.scoring import Task, load_model
from tavr_records.errors import InputError
from tavr_records.memo import Memo
from tiny_models import tavr, wan

from .conftest import CONFIG, FRAMES, clip_of, embed, pair_of


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    tavr(seed=3).save_pretrained(folder / "trained")
    wan(seed=4).save_pretrained(folder / "base")
    return folder


def test_a_trained_model_is_loaded_as_it_is(models):
    loaded = load_model(models / "trained", models / "trained")
    expected = tavr(seed=3).state_dict()
    assert not loaded.training
    assert loaded.state_dict().keys() == expected.keys()
    assert all(torch.equal(value, expected[name]) for name, value in loaded.state_dict().items())


def test_a_plain_base_keeps_its_weights_and_its_new_layers_are_silent(models):
    loaded = load_model(models / "base", models / "trained")
    base = WanTransformer3DModel.from_pretrained(models / "base").state_dict()
    state = loaded.state_dict()
    assert state.keys() == tavr().state_dict().keys()
    assert all(torch.equal(state[name], value) for name, value in base.items())
    for block in loaded.blocks:
        assert not block.audio_cross_attn.to_out[0].weight.any()


def test_a_model_that_is_not_there_is_named(models):
    with pytest.raises(FileNotFoundError, match="lost"):
        load_model(models / "lost", models / "trained")


def test_the_reference_is_the_frames_its_latents_were_encoded_from(world):
    scorer = world.scorer()
    assert [len(scorer.ref_media(clip_of(0, "ref"), latents)) for latents in (1, 2, 3)] == [1, 5, 9]
    assert scorer.ref_media(clip_of(0, "ref"), 2).mean() == pytest.approx(180, abs=3)


def test_the_target_is_its_first_frames_and_their_sound(world):
    frames, waveform = world.scorer().target_media(clip_of(0, "target"))
    assert (len(frames), len(waveform)) == (FRAMES, FRAMES * 640)
    assert frames.mean() == pytest.approx(220, abs=3)
    assert embed(frames).found.all()


def test_a_clip_of_no_latents_is_named(world):
    scorer, stranger = world.scorer(), clip_of(9, "ref")
    with pytest.raises(InputError, match=f"no ref0/latents of clip {stranger.clip_id}; run the stage latents"):
        scorer.ref_media(stranger, 2)


def test_a_generation_that_fails_is_not_remembered(world, tmp_path):
    pair = pair_of(0)
    task = Task("ours", CONFIG.methods["ours"], pair, pair.ref_clip_id, 7)
    memo, scorer = Memo(tmp_path / "memo", "context"), world.scorer()
    arguments = (None, task, clip_of(0, "target"), clip_of(0, "ref"), memo)
    world.broken = {"person-0"}
    with pytest.raises(KeyboardInterrupt):
        scorer.run(*arguments)
    assert [path for path in (tmp_path / "memo").rglob("*") if path.is_file()] == []
    world.broken = set()
    entry = scorer.run(*arguments)
    assert sorted(path.name for path in entry.iterdir()) == ["clip.mp4", "key.json", "score.json"]
    assert scorer.run(*arguments) == entry
    assert world.generated == [("ours", "person-0")]
