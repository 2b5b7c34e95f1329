"""Video reward: visual quality, motion quality and text alignment of a video, as VideoAlign's reward model gives them.

Qwen2-VL with a linear head without bias, read at three special tokens of the prompt (VQ and MQ come before the caption,
so with causal attention they do not depend on it; TA comes after). Paper section 4, metrics: Overall is the sum.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tavr_records.errors import InputError
from tavr_records.weight_files import require_files
from torch import Tensor, nn
from transformers import Qwen2VLConfig, Qwen2VLForConditionalGeneration, Qwen2VLProcessor

REWARD_TOKENS = ("<|VQ_reward|>", "<|MQ_reward|>", "<|TA_reward|>")
FRAME_FACTOR, MIN_FRAMES, MAX_FRAMES = 2, 4, 768
REQUIRED = (
    "config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
    "processor_config.json",
    "chat_template.jinja",
    "reward.json",
    "prompt_template.txt",
)

Frames = NDArray[np.uint8]


@dataclass(frozen=True)
class Reward:
    """Higher is better; the scale is the checkpoint's own."""

    vq: float
    mq: float
    ta: float

    @property
    def overall(self) -> float:
        """VQ + MQ + TA."""
        return self.vq + self.mq + self.ta


@dataclass(frozen=True)
class RewardConfig:
    """reward.json. fps: frames looked at a second; mean, std: of VQ, MQ, TA to standardize scores with, or null."""

    fps: float
    mean: tuple[float, float, float] | None
    std: tuple[float, float, float] | None


class Qwen2VLRewardModel(Qwen2VLForConditionalGeneration):
    """Qwen2-VL and `rm_head`, the layout of VideoAlign's checkpoints (`rm_head.weight` [3, hidden])."""

    def __init__(self, config: Qwen2VLConfig) -> None:
        super().__init__(config)
        text_config: Any = config.text_config
        self.rm_head = nn.Linear(text_config.hidden_size, len(REWARD_TOKENS), bias=False)
        self.post_init()

    def rewards(self, inputs: dict[str, Tensor], reward_ids: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Rewards [B, 3] in the order of REWARD_TOKENS, and the last hidden states [B, L, hidden]."""
        hidden: Tensor = self.model(**inputs, use_cache=False).last_hidden_state
        ids = inputs["input_ids"]
        columns: list[Tensor] = []
        for index, token in enumerate(reward_ids):
            found = ids == token
            if not bool((found.sum(dim=1) == 1).all()):
                raise ValueError(f"each prompt must hold {REWARD_TOKENS[index]} exactly once")
            columns.append(self.rm_head(hidden[found])[:, index])
        return torch.stack(columns, dim=1), hidden


def sampled_indices(total: int, video_fps: float, fps: float) -> NDArray[np.intp]:
    """Frames that are looked at: round(duration * fps) to an even number, at least 4, spread from first to last."""
    wanted = min(max(total / video_fps * fps, MIN_FRAMES), min(MAX_FRAMES, total) // FRAME_FACTOR * FRAME_FACTOR)
    count = min(round(wanted / FRAME_FACTOR) * FRAME_FACTOR, total)
    if count < FRAME_FACTOR:
        raise ValueError(f"the video has {total} frames; at least {FRAME_FACTOR} are needed")
    return np.round(np.linspace(0, total - 1, count)).astype(np.intp)


class PromptBuilder:
    """Turns videos and captions into model inputs: processor, chat template and prompt template of one checkpoint."""

    def __init__(self, directory: Path) -> None:
        self._processor: Any = Qwen2VLProcessor.from_pretrained(directory, local_files_only=True)
        self._template = (directory / "prompt_template.txt").read_text(encoding="utf-8")
        if "{text_prompt}" not in self._template:
            raise InputError(f"{directory / 'prompt_template.txt'}: {{text_prompt}} is missing; restore the file")
        tokenizer = self._processor.tokenizer
        self.reward_ids: list[int] = [int(tokenizer.convert_tokens_to_ids(token)) for token in REWARD_TOKENS]
        known = tokenizer.get_vocab()
        for token in REWARD_TOKENS:
            if token not in known:
                raise InputError(
                    f"{directory / 'tokenizer.json'}: no token {token}; use the checkpoint's own tokenizer"
                )

    def build(self, videos: Sequence[Frames], captions: Sequence[str]) -> dict[str, Tensor]:
        """Model inputs of videos uint8 [T, H, W, 3] (already sampled) with their captions, padded on the right."""
        texts: list[str] = []
        for caption in captions:
            # A caption cannot bring a special token of its own into the prompt.
            plain = caption.replace("<|", "< |")
            content = [{"type": "video"}, {"type": "text", "text": self._template.replace("{text_prompt}", plain)}]
            message = [{"role": "user", "content": content}]
            texts.append(self._processor.apply_chat_template(message, tokenize=False, add_generation_prompt=True))
        clips = [torch.from_numpy(np.ascontiguousarray(video)).permute(0, 3, 1, 2) for video in videos]
        batch = self._processor(text=texts, videos=clips, padding=True, return_tensors="pt", do_sample_frames=False)
        return {name: value for name, value in batch.items() if isinstance(value, Tensor)}


class VideoReward:
    """The reward model from a local directory; see REQUIRED for its files."""

    def __init__(self, directory: Path) -> None:
        """Load offline in float32; InputError names a missing file or a bad field."""
        require_files(directory, REQUIRED, "reward")
        values = json.loads((directory / "reward.json").read_text(encoding="utf-8"))
        if set(values) != {field.name for field in fields(RewardConfig)}:
            raise InputError(f"{directory / 'reward.json'}: fields {sorted(values)}; expected fps, mean, std")
        self.config = RewardConfig(**values)
        self.prompts = PromptBuilder(directory)
        self.model = Qwen2VLRewardModel.from_pretrained(directory, local_files_only=True, dtype=torch.float32).eval()

    @torch.no_grad()
    def score(self, frames: Frames, fps: float, prompt: str) -> Reward:
        """Reward of frames uint8 [T, H, W, 3] RGB shown at `fps` (which sets how many are looked at) for a caption."""
        video = frames[sampled_indices(len(frames), fps, self.config.fps)]
        rewards, _ = self.model.rewards(self.prompts.build([video], [prompt]), self.prompts.reward_ids)
        row = rewards[0].double()
        if self.config.mean is not None and self.config.std is not None:
            row = (row - torch.tensor(self.config.mean).double()) / torch.tensor(self.config.std).double()
        vq, mq, ta = row.tolist()
        return Reward(vq, mq, ta)
