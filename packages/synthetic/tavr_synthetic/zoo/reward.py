"""Train the tiny video reward: `python -m tavr_synthetic.zoo.reward --out DIR --cache DIR`.

Writes DIR/reward: a Qwen2-VL of under a million parameters with VideoAlign's reward head and tokens (float16). Pairs of
a clip and its damaged self are judged by Bradley-Terry with ties, as VideoAlign's: the damaged look loses in VQ, the
damaged motion in MQ, the caption of another clip in TA, and what is untouched ties. Next-token loss on the right
caption is meant to teach the network what captions speak of. Prints pairwise accuracies on people never seen.
"""

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tavr_perception.reward import REWARD_TOKENS, PromptBuilder, Qwen2VLRewardModel, VideoReward, sampled_indices
from torch import Tensor, nn
from transformers import Qwen2VLConfig, Qwen2VLImageProcessor, Qwen2VLProcessor, Qwen2VLVideoProcessor

from tavr_synthetic.zoo.corpus import FPS, CorpusConfig, captions, load_corpus
from tavr_synthetic.zoo.degradation import MOTION, VISUAL, Damage, Frames, recompressed
from tavr_synthetic.zoo.tokenizer import byte_level_tokenizer, sentences

CORPUS = CorpusConfig(clips=1200, frames=21, height=64, width=112, first_seed=1_000_000)
HELD_OUT = CorpusConfig(clips=120, frames=21, height=64, width=112, first_seed=3_000_000)
SAMPLE_FPS = 2.0
PIECES = 900
CLIPS_A_BATCH, SLOTS = 4, 5
TIE_THETA = 3.0
CAPTION_WEIGHT = 0.3
SPECIAL = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
TEMPLATE = """Visual Quality: <|VQ_reward|>
Motion Quality: <|MQ_reward|>
Textual prompt - {text_prompt}
Text Alignment: <|TA_reward|>
"""
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% for part in message['content'] %}{% if part['type'] == 'video' %}<|vision_start|><|video_pad|><|vision_end|>"
    "{% else %}{{ part['text'] }}{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
PATCH, TEMPORAL_PATCH, MERGE = 8, 2, 2


@dataclass(frozen=True)
class Clips:
    """frames uint8 [N, T, H, W, 3] and one caption each."""

    frames: NDArray[np.uint8]
    captions: list[str]


@dataclass(frozen=True)
class Batch:
    """Model inputs of CLIPS_A_BATCH x SLOTS sequences.

    Per clip the slots are: clean, damaged look, damaged motion, clean with a wrong caption, and a worse version of
    slot `graded` (1 or 2).
    """

    inputs: dict[str, Tensor]
    graded: list[int]


def write_processor(texts: list[str], directory: Path) -> int:
    """Tokenizer, image and video processor, templates and reward.json; returns the vocabulary's size."""
    tokenizer = byte_level_tokenizer(texts, PIECES, [*SPECIAL, *REWARD_TOKENS])
    sizes: dict[str, Any] = {"patch_size": PATCH, "temporal_patch_size": TEMPORAL_PATCH, "merge_size": MERGE}
    limits = {"shortest_edge": (4 * PATCH) ** 2, "longest_edge": 64 * 112}
    processor = Qwen2VLProcessor(
        image_processor=Qwen2VLImageProcessor(size=limits, **sizes),
        tokenizer=tokenizer,
        video_processor=Qwen2VLVideoProcessor(size=limits, cap_pixels_per_frame=False, **sizes),
        chat_template=CHAT_TEMPLATE,
    )
    processor.save_pretrained(directory)
    (directory / "prompt_template.txt").write_text(TEMPLATE, encoding="utf-8")
    (directory / "reward.json").write_text(json.dumps({"fps": SAMPLE_FPS, "mean": None, "std": None}, indent=2) + "\n")
    return len(tokenizer)


def build_model(vocabulary: int, directory: Path, seed: int) -> Qwen2VLRewardModel:
    """A random network whose token ids are those of the tokenizer in `directory`."""
    torch.manual_seed(seed)
    ids = json.loads((directory / "tokenizer.json").read_text(encoding="utf-8"))["added_tokens"]
    token = {entry["content"]: entry["id"] for entry in ids}
    text = {
        "vocab_size": vocabulary,
        "hidden_size": 96,
        "intermediate_size": 256,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 4096,
        "initializer_range": 0.05,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [4, 4, 4]},
        "bos_token_id": token["<|endoftext|>"],
        "eos_token_id": token["<|im_end|>"],
        "pad_token_id": token["<|endoftext|>"],
        "tie_word_embeddings": True,
    }
    vision = {
        "depth": 3,
        "embed_dim": 64,
        "hidden_size": 96,
        "mlp_ratio": 3,
        "num_heads": 4,
        "patch_size": PATCH,
        "spatial_merge_size": MERGE,
        "temporal_patch_size": TEMPORAL_PATCH,
        "initializer_range": 0.05,
    }
    config = Qwen2VLConfig(
        text_config=text,
        vision_config=vision,
        image_token_id=token["<|image_pad|>"],
        video_token_id=token["<|video_pad|>"],
        vision_start_token_id=token["<|vision_start|>"],
        vision_end_token_id=token["<|vision_end|>"],
        tie_word_embeddings=True,
    )
    return Qwen2VLRewardModel(config)


def dressed(frames: Frames, rng: np.random.Generator) -> Frames:
    """The undamaged clip as cameras and codecs vary it: brightness, contrast, a trace of noise."""
    contrast, middle = np.float32(rng.uniform(0.85, 1.1)), np.float32(128 + rng.uniform(-15, 15))
    values = (frames.astype(np.float32) - 128) * contrast + middle
    if rng.random() < 0.4:
        values += rng.standard_normal(values.shape, dtype=np.float32) * np.float32(rng.uniform(0, 2))
    result = np.clip(values, 0, 255).astype(np.uint8)
    if rng.random() < 0.3:
        result = recompressed(result, int(rng.integers(88, 97)))
    return result


def pick(damages: dict[str, Damage], rng: np.random.Generator) -> Damage:
    """One kind of damage; shuffling, which few frames can show, half as often."""
    names = [name for name in damages for _ in range(1 if name == "shuffle" else 2)]
    return damages[names[int(rng.integers(len(names)))]]


def draw_batch(data: Clips, prompts: PromptBuilder, rng: np.random.Generator) -> Batch:
    """Random clips with their damaged selves."""
    videos: list[Frames] = []
    texts: list[str] = []
    graded: list[int] = []
    for index in rng.integers(len(data.frames), size=CLIPS_A_BATCH):
        length = int(rng.integers(13, data.frames.shape[1] + 1))
        clip = dressed(data.frames[index][:length][sampled_indices(length, FPS, SAMPLE_FPS)], rng)
        look, motion = pick(VISUAL, rng), pick(MOTION, rng)
        weak, strong = np.sort(rng.uniform(0, 1, 2))
        slot = int(rng.integers(1, 3))
        others = rng.uniform(0.1, 1, 2)
        strengths = [float(weak) if slot == place else float(others[place - 1]) for place in (1, 2)]
        worse = (look, motion)[slot - 1](clip, float(strong), rng)
        videos += [clip, look(clip, strengths[0], rng), motion(clip, strengths[1], rng), clip, worse]
        right = data.captions[index]
        wrong = data.captions[int(rng.integers(len(data.captions)))]
        texts += [right, right, right, wrong, right]
        graded.append(slot)
    return Batch(prompts.build(videos, texts), graded)


def preference_loss(better: Tensor, worse: Tensor) -> Tensor:
    """Bradley-Terry with ties, first wins: -log 1 / (1 + theta exp(-d))."""
    return nn.functional.softplus(float(np.log(TIE_THETA)) - (better - worse))


def tie_loss(first: Tensor, second: Tensor) -> Tensor:
    """Bradley-Terry with ties, neither wins (up to a constant): -log of 1 / ((1 + theta e^-d)(1 + theta e^d))."""
    shift, gap = float(np.log(TIE_THETA)), first - second
    return nn.functional.softplus(shift - gap) + nn.functional.softplus(shift + gap) - 2 * float(np.log(1 + TIE_THETA))


def reward_loss(rewards: Tensor, graded: list[int]) -> Tensor:
    """Mean over dimensions of the pair losses of one batch; rewards [B * SLOTS, 3]."""
    table = rewards.view(-1, SLOTS, 3)
    clean, look, motion, caption, worse = table.unbind(dim=1)
    wins = preference_loss(clean[:, 0], look[:, 0]) + preference_loss(clean[:, 1], motion[:, 1])
    wins = wins + preference_loss(clean[:, 2], caption[:, 2])
    ties = tie_loss(clean[:, 0], motion[:, 0]) + tie_loss(clean[:, 1], look[:, 1]) + tie_loss(clean[:, 2], look[:, 2])
    rows = torch.arange(len(table))
    slots = torch.tensor(graded)
    steps = preference_loss(table[rows, slots, slots - 1], worse[rows, slots - 1])
    return (wins + 0.3 * ties + 0.3 * steps).mean()


def caption_places(tokens: Tensor, ids: list[int]) -> Tensor:
    """Which tokens [B, L] belong to the caption: bool, all between the MQ and the TA token."""
    place = torch.arange(tokens.shape[1])[None]
    after = (tokens == ids[1]).int().argmax(1, keepdim=True)
    before = (tokens == ids[2]).int().argmax(1, keepdim=True)
    return (place > after) & (place < before)


def caption_loss(model: Qwen2VLRewardModel, hidden: Tensor, tokens: Tensor, ids: list[int]) -> Tensor:
    """Next-token loss on the captions of the clean slots."""
    wanted = caption_places(tokens, ids)[::SLOTS, 1:]
    logits = model.lm_head(hidden[::SLOTS, :-1][wanted])
    return nn.functional.cross_entropy(logits, tokens[::SLOTS, 1:][wanted])


def train(model: Qwen2VLRewardModel, data: Clips, prompts: PromptBuilder, steps: int, seed: int) -> None:
    """Train in place for `steps` batches."""
    rng = np.random.default_rng([seed, 9])
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1.5e-3, betas=(0.9, 0.98), weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=1.5e-3, total_steps=steps, pct_start=0.1)
    recent: list[list[float]] = []
    for step in range(steps):
        batch = draw_batch(data, prompts, rng)
        rewards, hidden = model.rewards(batch.inputs, prompts.reward_ids)
        judged = reward_loss(rewards, batch.graded)
        tokens = batch.inputs["input_ids"]
        told = caption_loss(model, hidden, tokens, prompts.reward_ids)
        optimizer.zero_grad()
        (judged + CAPTION_WEIGHT * told).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        table = rewards.detach().view(-1, SLOTS, 3)
        right = [float((table[:, 0, k] > table[:, k + 1, k]).float().mean()) for k in range(3)]
        recent.append([float(judged.detach()), float(told.detach()), *right])
        if step % 100 == 0 or step == steps - 1:
            means = np.mean(recent[-100:], axis=0).round(3).tolist()
            named = dict(zip(("loss", "caption", "vq", "mq", "ta"), means, strict=True))
            print(json.dumps({"step": step} | named), flush=True)
    model.eval()


def measure(directory: Path, data: Clips) -> dict[str, float]:
    """Share of unseen clips that beat their damaged self (strength 0.5), per kind, and the means per dimension."""
    reward = VideoReward(directory)
    rng = np.random.default_rng(29)
    clean = [reward.score(frames, FPS, text) for frames, text in zip(data.frames, data.captions, strict=True)]
    result: dict[str, float] = {}
    for dimension, damages in (("vq", VISUAL), ("mq", MOTION)):
        for name, damage in damages.items():
            wins: list[bool] = []
            for good, frames, text in zip(clean, data.frames, data.captions, strict=True):
                bad = reward.score(damage(frames, 0.5, rng), FPS, text)
                wins.append(getattr(good, dimension) > getattr(bad, dimension))
            result[f"{dimension}_{name}"] = round(float(np.mean(wins)), 4)
        result[dimension] = round(float(np.mean([v for k, v in result.items() if k.startswith(dimension + "_")])), 4)
    count = len(clean)
    wrong = [reward.score(data.frames[i], FPS, data.captions[(i + 1) % count]).ta for i in range(count)]
    result["ta"] = round(float(np.mean([clean[i].ta > wrong[i] for i in range(count)])), 4)
    return result


def main() -> None:
    """Train, save and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="writes OUT/reward")
    parser.add_argument("--cache", type=Path, required=True, help="where rendered clips are kept between runs")
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    directory: Path = options.out / "reward"
    directory.mkdir(parents=True, exist_ok=True)
    frames, _ = load_corpus(CORPUS, options.cache)
    data = Clips(frames, captions(CORPUS))
    vocabulary = write_processor([*data.captions, *sentences(1500, options.seed), TEMPLATE], directory)
    model = build_model(vocabulary, directory, options.seed)
    print(json.dumps({"parameters": sum(p.numel() for p in model.parameters()), "vocabulary": vocabulary}), flush=True)
    train(model, data, PromptBuilder(directory), options.steps, options.seed)
    model.half().save_pretrained(directory)
    unseen, _ = load_corpus(HELD_OUT, options.cache)
    print(json.dumps(measure(directory, Clips(unseen, captions(HELD_OUT)))), flush=True)


if __name__ == "__main__":
    main()
