"""Stage 1 (paper section 3.2): learn to copy appearance from another segment of the same clip."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from tavr_model.transformer import TAVRTransformer3DModel
from tavr_records.errors import InputError
from tavr_records.manifest import read_manifest
from tavr_records.schemas import ClipSplit
from tavr_records.verdict import quarantine_path, require_passed
from tavr_training.dataset import LatentStore
from tavr_training.draws import Example, FlowSample, draw_flow_sample, flow_loss
from tavr_training.loop import open_training, train
from tavr_training.streams import EpochSampler, stream

from tavr_stage1.config import Stage1Config

STAGE = "stage1"


def stage1(config: Stage1Config, root: Path = Path()) -> None:
    """Train from the base on single clips and write `data/stage1`."""
    data, reports = root / "data", root / "reports"
    excluded = require_passed("latents", reports) | require_passed("pairs", reports)
    store = LatentStore(data / "latents")
    examples = same_scene_examples(read_manifest(data / "pairs/clips.parquet", ClipSplit), store, excluded)
    inputs = [root / config.base, data / "latents/manifest.parquet", data / "pairs/clips.parquet"]
    quarantines = [quarantine_path(stage, reports) for stage in ("latents", "pairs")]
    training = open_training(STAGE, config, [*inputs, *quarantines], root)

    layers, features = store.audio_shape()
    model = TAVRTransformer3DModel.from_base(
        root / config.base, config.seed, audio_layers=layers, audio_features=features, **asdict(config.transformer)
    )
    sampler = EpochSampler(len(examples), config.optimizer.global_batch, config.seed, STAGE)

    def draw(step: int, slot: int) -> FlowSample:
        example, generator = examples[sampler.item(step, slot)], stream(config.seed, STAGE, step, slot)
        return draw_flow_sample(store, example, config.conditions, config.times, generator, (STAGE, step, slot))

    train(training, model, draw, flow_loss)


def same_scene_examples(clips: Sequence[ClipSplit], store: LatentStore, excluded: set[str]) -> list[Example]:
    """Every training clip with its own non-overlapping window as reference; quarantined clips are left out.

    Raises:
        InputError: nothing is left to train on.
    """
    kept = sorted(
        clip.clip_id
        for clip in clips
        if clip.split == "train" and clip.clip_id not in excluded and store.has(clip.clip_id, "ref0/latents")
    )
    if not kept:
        raise InputError("data/pairs/clips.parquet: no clip of split train with cached latents; add clips to ingest")
    return [Example(clip_id, clip_id) for clip_id in kept]
