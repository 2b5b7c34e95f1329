"""TAVRPipeline with the embedded world's own pretrained parts: seeds, batches, long videos, saving, low memory."""

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKLWan, UniPCMultistepScheduler
from tavr_model.pipeline import TAVRPipeline
from tavr_model.transformer import TAVRTransformer3DModel
from transformers import AutoTokenizer, UMT5EncoderModel, Wav2Vec2FeatureExtractor, Wav2Vec2Model

HEIGHT, WIDTH = 32, 48
FAST = {"num_inference_steps": 2, "window_frames": 9, "motion_latents": 1}


@pytest.fixture(scope="module")
def pipeline(zoo: Path) -> TAVRPipeline:
    torch.manual_seed(0)
    model = TAVRTransformer3DModel.from_base(
        zoo / "base", audio_layers=5, audio_features=64, audio_tokens=2, audio_hidden=16, text_len=96
    )
    for block in model.blocks:
        torch.nn.init.normal_(block.audio_cross_attn.to_out[0].weight, std=0.2)
    made = TAVRPipeline(
        transformer=model,
        vae=AutoencoderKLWan.from_pretrained(zoo / "vae"),
        scheduler=UniPCMultistepScheduler.from_pretrained(zoo / "scheduler"),
        text_encoder=UMT5EncoderModel.from_pretrained(zoo / "text_encoder", dtype=torch.float32).eval(),
        tokenizer=AutoTokenizer.from_pretrained(zoo / "tokenizer"),
        speech_encoder=Wav2Vec2Model.from_pretrained(zoo / "speech", dtype=torch.float32).eval(),
        feature_extractor=Wav2Vec2FeatureExtractor.from_pretrained(zoo / "speech"),
    )
    made.set_progress_bar_config(disable=True)
    return made


def speech(frames: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-0.5, 0.5, frames * 640).astype(np.float32)


def request(seed: int = 0, frames: int = 9, **changes) -> dict:
    rng = np.random.default_rng(seed)
    boxes = np.tile(np.array([16, 0, 32, 16], np.float32), (9, 1))
    hole = np.zeros((HEIGHT, WIDTH), bool)
    hole[:, 16:32] = True
    given = {
        "reference_video": rng.integers(0, 256, (9, HEIGHT, WIDTH, 3), np.uint8),
        "reference_audio": speech(9, seed + 1),
        "reference_boxes": boxes,
        "driving_audio": speech(frames, seed + 2),
        "background": rng.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8),
        "background_mask": hole,
        "prompt": "A woman talks.",
        "generator": torch.Generator().manual_seed(seed),
    }
    return given | changes


def test_a_video_is_as_long_as_its_speech(pipeline):
    for frames, joins in ((9, []), (6, []), (23, [9, 17]), (1, [])):
        made = pipeline(**request(frames=frames), **FAST)
        assert made.frames[0].shape == (frames, HEIGHT, WIDTH, 3)
        assert made.frames[0].dtype == np.uint8
        assert made.joins == [joins]
    assert pipeline(**request(frames=23), num_frames=5, **FAST).frames[0].shape[0] == 5


def test_equal_seeds_give_equal_videos(pipeline):
    one, same, other = (pipeline(**request(generator=torch.Generator().manual_seed(s)), **FAST) for s in (1, 1, 2))
    assert np.array_equal(one.frames[0], same.frames[0])
    assert not np.array_equal(one.frames[0], other.frames[0])
    assert pipeline(**request(generator=None), **FAST).frames[0].shape == one.frames[0].shape


def test_everything_given_matters(pipeline):
    plain = pipeline(**request(), output_type="latent", **FAST).frames[0]
    assert plain.shape == (16, 3, HEIGHT // 8, WIDTH // 8)
    other = request(5)
    for name in ("reference_video", "reference_audio", "driving_audio", "background"):
        changed = pipeline(**request(**{name: other[name]}), output_type="latent", **FAST).frames[0]
        assert (changed - plain).abs().max() > 1e-4, name
    for name in ("reference_audio", "reference_boxes", "background_mask"):
        changed = pipeline(**request(**{name: None}), output_type="latent", **FAST).frames[0]
        assert (changed - plain).abs().max() > 1e-4, name
    changed = pipeline(**request(prompt="A dark room."), output_type="latent", **FAST).frames[0]
    assert (changed - plain).abs().max() > 1e-4


def test_a_batch_equals_its_requests_alone(pipeline):
    requests = [request(1), request(2, frames=14, reference_boxes=None), request(3, frames=5, reference_audio=None)]
    alone = [pipeline(**given, output_type="latent", **FAST).frames[0] for given in requests]
    requests = [request(1), request(2, frames=14, reference_boxes=None), request(3, frames=5, reference_audio=None)]
    batch = pipeline(
        **{name: [given[name] for given in requests] for name in requests[0]}, output_type="latent", **FAST
    )
    for one, two in zip(alone, batch.frames, strict=True):
        assert one.shape == two.shape
        assert (one - two).abs().max() <= 1e-3


def test_guidance_may_be_packed_which_changes_nothing_or_gated_which_does(pipeline):
    def run(**choices):
        passes = []
        hook = pipeline.transformer.register_forward_hook(lambda _m, given, _out: passes.append(len(given[0])))
        try:
            steps = {"num_inference_steps": 4, "window_frames": 9, "motion_latents": 1}
            return pipeline(**request(), output_type="latent", **steps, **choices).frames[0], passes[1:]
        finally:
            hook.remove()

    exact, passes = run()
    assert passes == [1] * 12
    packed, passes = run(packed_branches=True)
    assert passes == [3] * 4
    assert (packed - exact).abs().max() <= 1e-3
    gated, passes = run(guided_share=0.5)
    assert passes == [1] * 8
    assert (gated - exact).abs().max() > 1e-3
    with pytest.raises(ValueError, match="a share in"):
        run(guided_share=0.0)


def test_every_step_is_told(pipeline):
    told = []
    pipeline(**request(frames=14), callback_on_step_end=lambda _p, *step: told.append(step), **FAST)
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_it_tells_which_reference_frames_were_looked_at_without_changing_the_video(pipeline):
    made = pipeline(**request(frames=14), explain=True, **FAST)
    (shares,) = made.attention
    assert shares.shape == (5, 3)
    assert (shares > 0).all()
    assert (shares.sum(axis=1) < 1).all()
    plain = pipeline(**request(frames=14), **FAST)
    assert plain.attention == []
    assert np.array_equal(plain.frames[0], made.frames[0])


def test_it_saves_and_loads_itself_with_a_model_card(pipeline, tmp_path):
    pipeline.save_pretrained(tmp_path)
    card = (tmp_path / "README.md").read_text()
    assert "license: apache-2.0" in card
    assert "consent of the person shown" in card
    again = TAVRPipeline.from_pretrained(tmp_path)
    again.set_progress_bar_config(disable=True)
    assert np.array_equal(again(**request(), **FAST).frames[0], pipeline(**request(), **FAST).frames[0])


def test_what_diffusers_offers_for_low_memory_works(pipeline, tmp_path):
    expected = pipeline(**request(), **FAST).frames[0].astype(int)
    pipeline.save_pretrained(tmp_path)

    def fresh() -> TAVRPipeline:
        made = TAVRPipeline.from_pretrained(tmp_path)
        made.set_progress_bar_config(disable=True)
        return made

    tiled = fresh()
    tiled.vae.enable_tiling(32, 32, 16, 16)
    assert tiled(**request(), **FAST).frames[0].shape == expected.shape

    offloaded = fresh()
    cpu = torch.device("cpu")
    offloaded.transformer.enable_group_offload(cpu, cpu, offload_type="block_level", num_blocks_per_group=1)
    assert np.abs(offloaded(**request(), **FAST).frames[0] - expected).max() == 0

    cast = fresh()
    cast.transformer.enable_layerwise_casting(storage_dtype=torch.bfloat16, compute_dtype=torch.float32)
    assert {p.dtype for p in cast.transformer.blocks[0].ffn.parameters()} == {torch.bfloat16}
    assert np.abs(cast(**request(), **FAST).frames[0] - expected).mean() < 8


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"reference_video": np.zeros((9, 30, 48, 3), np.uint8)}, "reference_video .* multiples of 16"),
        ({"reference_video": np.zeros((9, 32, 48, 3), np.float32)}, "reference_video is float32"),
        ({"reference_boxes": np.zeros((2, 4), np.float32)}, r"reference_boxes is \(2, 4\) for 9 frames"),
        ({"reference_boxes": np.full((9, 4), np.nan, np.float32)}, "reference_boxes: no face in any frame"),
        ({"background": np.zeros((32, 40, 3), np.uint8)}, "background is .* multiples of 16"),
        ({"background_mask": np.zeros((8, 8), bool)}, "background_mask is bool"),
        ({"driving_audio": np.zeros(0, np.float32)}, "driving_audio is empty"),
        ({"prompt": ["a", "b"], "driving_audio": [speech(3)]}, "lists of different lengths"),
        ({"prompt": ["a", "b"]}, "one generator for 2 requests"),
        ({"prompt": []}, "prompt: an empty list"),
        ({"output_type": "pil"}, 'give "np" or "latent"'),
        ({"window_frames": 10}, "window_frames is 10"),
    ],
)
def test_what_does_not_fit_is_named(pipeline, changes, message):
    with pytest.raises(ValueError, match=message):
        pipeline(**(request(**changes) | {**FAST, **changes}))


def test_a_push_uploads_what_is_saved(pipeline, monkeypatch):
    """The hub itself cannot be reached here; what would be sent to it is looked at."""
    sent: dict[str, list[str]] = {}

    def upload(*, repo_id, folder_path, **_):
        sent[repo_id] = sorted(path.name for path in Path(folder_path).iterdir())
        return "https://hub.invalid/commit/1"

    monkeypatch.setattr("tavr_model.pipeline.create_repo", lambda name, **_: type("Repo", (), {"repo_id": name}))
    monkeypatch.setattr("tavr_model.pipeline.upload_folder", upload)
    assert pipeline.push_to_hub("someone/tavr") == "https://hub.invalid/commit/1"
    assert {"README.md", "model_index.json", "transformer", "vae"} <= set(sent["someone/tavr"])
