"""Stage 2 (paper section 3.2): the reference comes from another scene of the same person."""

from collections.abc import Sequence
from pathlib import Path

from tavr_model.transformer import TAVRTransformer3DModel
from tavr_records.errors import InputError
from tavr_records.manifest import read_manifest
from tavr_records.schemas import ClipPair
from tavr_records.verdict import quarantine_path, require_passed
from tavr_training.dataset import LatentStore
from tavr_training.draws import Example, FlowSample, draw_flow_sample, flow_loss
from tavr_training.loop import open_training, train
from tavr_training.streams import EpochSampler, stream

from tavr_stage2.config import Stage2Config

STAGE = "stage2"


def stage2(config: Stage2Config, root: Path = Path()) -> None:
    """Train on cross-scene pairs and write `data/stage2`."""
    data, reports = root / "data", root / "reports"
    excluded = require_passed("latents", reports) | require_passed("pairs", reports)
    store = LatentStore(data / "latents")
    examples = cross_scene_examples(read_manifest(data / "pairs/manifest.parquet", ClipPair), store, excluded)
    inputs = [root / config.start, data / "latents/manifest.parquet", data / "pairs/manifest.parquet"]
    quarantines = [quarantine_path(stage, reports) for stage in ("latents", "pairs")]
    training = open_training(STAGE, config, [*inputs, *quarantines], root)

    model = TAVRTransformer3DModel.from_pretrained(str(root / config.start))
    sampler = EpochSampler(len(examples), config.optimizer.global_batch, config.seed, STAGE)

    def draw(step: int, slot: int) -> FlowSample:
        example, generator = examples[sampler.item(step, slot)], stream(config.seed, STAGE, step, slot)
        return draw_flow_sample(store, example, config.conditions, config.times, generator, (STAGE, step, slot))

    train(training, model, draw, flow_loss)


def cross_scene_examples(pairs: Sequence[ClipPair], store: LatentStore, excluded: set[str]) -> list[Example]:
    """Both directions of every training pair whose ids are not quarantined (review is the benchmark's concern).

    Raises:
        InputError: nothing is left to train on.
    """
    directions: set[tuple[str, str]] = set()
    for pair in pairs:
        clips = (pair.ref_clip_id, pair.target_clip_id)
        cached = all(store.has(clip, f"{window}/latents") for clip in clips for window in ("target0", "ref0"))
        if pair.split == "train" and cached and not excluded.intersection((pair.pair_id, *clips)):
            directions.update((clips, (pair.target_clip_id, pair.ref_clip_id)))
    if not directions:
        raise InputError("data/pairs/manifest.parquet: no pair of split train; add people with several scenes")
    return [Example(ref_clip, target_clip) for ref_clip, target_clip in sorted(directions)]
