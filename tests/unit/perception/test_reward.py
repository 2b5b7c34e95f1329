"""The video reward: layout, frame sampling, and who wins on people never seen."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from talking_heads import FPS, Talker, render_talker
from tavr_perception.reward import REWARD_TOKENS, Reward, VideoReward, sampled_indices
from tavr_records.errors import InputError
from tavr_synthetic.zoo.degradation import blockiness, blur, flicker, freeze, jitter, noise

CLIPS, FRAMES = 16, 21


@pytest.fixture(scope="module")
def reward(zoo: Path) -> VideoReward:
    return VideoReward(zoo / "reward")


@pytest.fixture(scope="module")
def talkers() -> list[Talker]:
    return [render_talker(index, FRAMES) for index in range(CLIPS)]


@pytest.fixture(scope="module")
def clean(reward: VideoReward, talkers: list[Talker]) -> list[Reward]:
    return [reward.score(talker.frames, FPS, talker.caption) for talker in talkers]


@pytest.mark.parametrize(
    ("total", "fps", "count"),
    [(81, 25, 6), (21, 25, 4), (44, 25, 4), (125, 25, 10), (4, 25, 4), (3, 25, 2), (300, 30, 20)],
)
def test_frames_looked_at(total: int, fps: float, count: int) -> None:
    """round(duration * 2) to even, at least 4, and never more than there are."""
    indices = sampled_indices(total, fps, 2.0)
    assert len(indices) == count
    assert indices[0] == 0
    assert indices[-1] == total - 1
    with pytest.raises(ValueError, match="1 frames"):
        sampled_indices(1, fps, 2.0)


def test_checkpoint_layout(zoo: Path, reward: VideoReward) -> None:
    """VideoAlign's head without bias, one row a dimension, beside Qwen2-VL's own names."""
    state = load_file(zoo / "reward" / "model.safetensors")
    assert state["rm_head.weight"].shape == (3, reward.model.config.text_config.hidden_size)
    assert "rm_head.bias" not in state
    assert any(name.startswith(("model.visual.", "visual.")) for name in state)
    tokenizer = reward.prompts._processor.tokenizer
    for token in REWARD_TOKENS:
        assert len(tokenizer(token)["input_ids"]) == 1


def test_scores_are_the_head_at_the_special_tokens(reward: VideoReward, talkers: list[Talker]) -> None:
    talker = talkers[0]
    inputs = reward.prompts.build([talker.frames[sampled_indices(FRAMES, FPS, 2.0)]], [talker.caption])
    with torch.no_grad():
        hidden = reward.model.model(**inputs).last_hidden_state[0]
        scores = [
            float(reward.model.rm_head(hidden[inputs["input_ids"][0] == token][0])[index])
            for index, token in enumerate(reward.prompts.reward_ids)
        ]
    found = reward.score(talker.frames, FPS, talker.caption)
    assert [found.vq, found.mq, found.ta] == pytest.approx(scores, abs=1e-5)
    assert found.overall == pytest.approx(sum(scores), abs=1e-4)


def test_only_text_alignment_depends_on_the_prompt(reward: VideoReward, talkers: list[Talker]) -> None:
    first = reward.score(talkers[0].frames, FPS, talkers[0].caption)
    second = reward.score(talkers[0].frames, FPS, "A dog runs along a beach.")
    assert (first.vq, first.mq) == pytest.approx((second.vq, second.mq), abs=1e-5)
    assert first.ta != second.ta


def test_deterministic_and_deaf_to_special_tokens_in_a_caption(reward: VideoReward, talkers: list[Talker]) -> None:
    caption = f"A person {REWARD_TOKENS[0]} talks <|video_pad|>"
    assert reward.score(talkers[1].frames, FPS, caption) == reward.score(talkers[1].frames, FPS, caption)


@pytest.mark.parametrize(
    ("damage", "score", "seed", "share"),
    [
        *((damage, "vq", 3, 0.8) for damage in (blur, noise, blockiness)),
        *((damage, "mq", 4, 0.75) for damage in (freeze, jitter, flicker)),
    ],
)
def test_damaged_look_lowers_vq_and_damaged_motion_mq(
    reward: VideoReward, talkers: list[Talker], clean: list[Reward], damage, score: str, seed: int, share: float
) -> None:
    rng = np.random.default_rng(seed)
    worse = [getattr(reward.score(damage(t.frames, 0.6, rng), FPS, t.caption), score) for t in talkers]
    assert np.mean([getattr(good, score) > bad for good, bad in zip(clean, worse, strict=True)]) >= share


@pytest.mark.xfail(reason="text alignment of the committed weights is at chance, see docs/log.md", strict=True)
def test_wrong_caption_lowers_ta(reward: VideoReward, talkers: list[Talker], clean: list[Reward]) -> None:
    wins = []
    for step in (1, 5):
        for index, talker in enumerate(talkers):
            wrong = reward.score(talker.frames, FPS, talkers[(index + step) % CLIPS].caption)
            wins.append(clean[index].ta > wrong.ta)
    assert np.mean(wins) >= 0.8


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"config\.json.*weights"):
        VideoReward(tmp_path)
