"""A training's whole surroundings at the smallest size: base, latents, pairs, preferences, verdicts, params.yaml."""

import json
import shutil
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import torch
import yaml
from diffusers import WanTransformer3DModel
from rows import make_pair, sha256_of, write_passed
from tavr_records.ids import pair_id
from tavr_records.manifest import write_manifest
from tavr_records.schemas import CachedClip, ClipPair, ClipSplit, PreferencePair
from tavr_records.shards import group_by_shard, write_shard

REPOSITORY = Path(__file__).resolve().parents[2]
SHAPE = (16, 3, 4, 6)
AUDIO = (3, 8)
TEXT_DIM = 16
BASE: dict[str, Any] = {
    "num_attention_heads": 2, "attention_head_dim": 12, "num_layers": 2, "ffn_dim": 48,
    "text_dim": TEXT_DIM, "freq_dim": 16, "rope_max_seq_len": 40,
}  # fmt: skip
TRANSFORMER = {
    "text_len": 12, "audio_tokens": 2, "audio_hidden": 16,
    "target_offset": 0, "background_offset": 30, "reference_offset": 31,
}  # fmt: skip


def clip_name(person: int, scene: int) -> str:
    return sha256_of(f"{person}/{scene}")


def _bf16(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape).astype(ml_dtypes.bfloat16)


def clip_tensors(seed: int, shape: tuple[int, int, int, int], audio: tuple[int, int], text_dim: int, ref: int):
    """The tensors of one clip as `latents` writes them."""
    rng = np.random.default_rng(seed)
    channels, frames, height, width = shape
    rows, columns = height // 2, width // 2
    face = np.zeros((max(frames, ref), rows, columns), bool)
    face[:, : max(1, rows // 2), : max(1, columns // 2)] = True
    bg = np.ones((rows, columns), bool)
    bg[-1, : columns // 2] = False
    foreground = np.zeros((height, width), bool)
    foreground[height // 2 :, : width // 2] = True
    pixel, ref_pixel = 4 * (frames - 1) + 1, 4 * (ref - 1) + 1
    return {
        "target0/latents": (_bf16(rng, *shape), 0, pixel),
        "target0/face_tokens": (face[:frames], 0, pixel),
        "target0/bg_latents": (_bf16(rng, channels, 1, height, width), 0, 1),
        "target0/bg_tokens": (bg, 0, 1),
        "target0/foreground": (foreground, 0, 1),
        "ref0/latents": (_bf16(rng, channels, ref, height, width), pixel, ref_pixel),
        "long0/latents": (_bf16(rng, channels, 2 * frames - 1, height, width), 0, 4 * (2 * frames - 2) + 1),
        "ref0/face_tokens": (face[:ref], pixel, ref_pixel),
        "clip/text": (_bf16(rng, 5, text_dim), 0, pixel + ref_pixel),
        "clip/audio": (_bf16(rng, pixel + ref_pixel, *audio), 0, pixel + ref_pixel),
    }


def write_latents(directory: Path, clips: dict[str, str], shape=SHAPE, text_dim=TEXT_DIM, audio=AUDIO) -> None:
    """Shards and manifest for {clip id: person id}."""
    rows = []
    for shard, members in group_by_shard(sorted(clips), 1).items():
        tensors = {clip: clip_tensors(int(clip[:8], 16), shape, audio, text_dim, 3) for clip in members}
        flat = {f"{clip}/{key}": entry[0] for clip in members for key, entry in tensors[clip].items()}
        offsets = write_shard(directory / shard, flat)
        for clip in members:
            for key, (_, start, frames) in tensors[clip].items():
                offset, size = offsets[f"{clip}/{key}"]
                rows.append(CachedClip(clip, key, shard, offset, size, start, frames, clips[clip]))
    write_manifest(directory / "manifest.parquet", CachedClip, rows, sort_by=("clip_id", "key"))


def write_preferences(root: Path, pairs: list[tuple[str, str]], shape=SHAPE) -> None:
    tensors, rows = {}, []
    for index, (ref, target) in enumerate(pairs):
        name = sha256_of(f"preference {index}")
        rng = np.random.default_rng(index)
        tensors[f"{name}/winner"] = _bf16(rng, *shape)
        tensors[f"{name}/loser"] = _bf16(rng, *shape)
        rows.append(
            PreferencePair(
                name, pair_id(ref, target), ref, target, "p", "ref0", "target0", 2, 1, 2, 0.7, 0.4, 0.3, 4,
                "shard-0.safetensors",
            )
        )  # fmt: skip
    write_shard(root / "data/preferences/shard-0.safetensors", tensors)
    write_manifest(root / "data/preferences/manifest.parquet", PreferencePair, rows, sort_by=("preference_id",))


def numerics(dtype: str = "float32") -> dict[str, Any]:
    return {"threads": 1, "dtype": dtype}


def optimizer(**changes: Any) -> dict[str, Any]:
    values = {
        "steps": 4, "global_batch": 4, "learning_rate": 1e-3, "warmup_steps": 2, "decay_steps": 0,
        "beta1": 0.9, "beta2": 0.999, "weight_decay": 0.01, "max_grad_norm": 1.0,
    }  # fmt: skip
    return {**values, **changes}


def flow_section(motion: float = 0.0, **changes: Any) -> dict[str, Any]:
    values = {
        "seed": 0,
        "conditions": {
            "ref_latent_frames_min": 1, "ref_latent_frames_max": 3, "text_dropout": 0.1, "audio_dropout": 0.1,
            "motion_probability": motion, "motion_latent_frames": 1, "token_selection": True, "ref_audio": True,
        },
        "times": {"logit_mean": 0.0, "logit_std": 1.0},
        "optimizer": optimizer(),
        "numerics": numerics(),
    }  # fmt: skip
    return {**values, **changes}


def stage3_section(**changes: Any) -> dict[str, Any]:
    values = {
        "seed": 0,
        "start": "data/stage2/model",
        "preference": {
            "variant": "masked", "beta": 500.0, "dpo_weight": 2.0, "mse_weight": 1.0, "reduction": "mean",
            "anchor": "winner", "text_dropout": 0.1, "audio_dropout": 0.1,
        },
        "times": {"logit_mean": 0.0, "logit_std": 1.0},
        "optimizer": optimizer(global_batch=2, learning_rate=1e-4),
        "numerics": numerics(),
    }  # fmt: skip
    return {**values, **changes}


def build_world(root: Path, people: int = 3, scenes: int = 2) -> Path:
    """Everything the three training stages read, and a params.yaml with their sections."""
    clips = {clip_name(p, s): f"person-{p}" for p in range(people + 1) for s in range(scenes)}
    torch.manual_seed(0)
    WanTransformer3DModel(**BASE).save_pretrained(root / "data/weights/base")
    write_latents(root / "data/latents", clips)
    splits, pairs = [], []
    for person in range(people + 1):
        split = "train" if person < people else "benchmark"
        splits += [ClipSplit(clip_name(person, s), f"person-{person}", f"i{person}", split) for s in range(scenes)]
        pairs.append(make_pair(clip_name(person, 0), clip_name(person, 1), person, split))
    write_manifest(root / "data/pairs/clips.parquet", ClipSplit, splits, sort_by=("clip_id",))
    write_manifest(root / "data/pairs/manifest.parquet", ClipPair, pairs, sort_by=("pair_id",))
    write_preferences(root, [(p.ref_clip_id, p.target_clip_id) for p in pairs if p.split == "train"])
    write_passed(root, "latents", "pairs", "preferences")
    shutil.copytree(REPOSITORY / "infra/deepspeed", root / "infra/deepspeed")
    sections = {
        "stage1": flow_section(base="data/weights/base", transformer=TRANSFORMER),
        "stage2": flow_section(0.25, start="data/stage1/model"),
        "stage3": stage3_section(),
    }
    write_params(root, sections)
    return root


def write_params(root: Path, sections: dict[str, Any]) -> None:
    (root / "params.yaml").write_text(yaml.safe_dump(sections))


def read_params(root: Path) -> dict[str, Any]:
    return yaml.safe_load((root / "params.yaml").read_text())


def write_machine(
    root: Path, name: str, micro_batch: int, every: int, *, gradient_checkpointing: bool = False, **deepspeed: Any
) -> Path:
    facts = {
        "micro_batch_per_device": micro_batch, "checkpoint_every_steps": every, "deepspeed": deepspeed,
        "gradient_checkpointing": gradient_checkpointing,
    }  # fmt: skip
    path = root / f"{name}.json"
    path.write_text(json.dumps(facts))
    return path
