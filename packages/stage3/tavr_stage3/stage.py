"""Stage 3 (paper section 3.2): prefer the generation that looks more like the person, inside the person's mask."""

from pathlib import Path

from tavr_model.transformer import TAVRTransformer3DModel
from tavr_records.manifest import read_manifest
from tavr_records.schemas import PreferencePair
from tavr_records.verdict import quarantine_path, require_passed
from tavr_training.dataset import LatentStore
from tavr_training.loop import open_training, train
from tavr_training.streams import EpochSampler, stream

from tavr_stage3.config import Stage3Config
from tavr_stage3.objective import check_choices, preference_objective
from tavr_stage3.pairs import GenerationStore, PreferenceSample, draw_preference_sample, kept_pairs

STAGE = "stage3"


def stage3(config: Stage3Config, root: Path = Path()) -> None:
    """Train on preference pairs against the frozen start and write `data/stage3`."""
    check_choices(config.preference)
    data, reports = root / "data", root / "reports"
    excluded = require_passed("preferences", reports) | require_passed("latents", reports)
    store, generations = LatentStore(data / "latents"), GenerationStore(data / "preferences")
    pairs = kept_pairs(read_manifest(data / "preferences/manifest.parquet", PreferencePair), excluded)
    inputs = [root / config.start, data / "latents/manifest.parquet", data / "preferences"]
    quarantines = [quarantine_path(stage, reports) for stage in ("preferences", "latents")]
    training = open_training(STAGE, config, [*inputs, *quarantines], root)

    model = TAVRTransformer3DModel.from_pretrained(str(root / config.start))
    frozen_model = TAVRTransformer3DModel.from_pretrained(str(root / config.start)).requires_grad_(False).eval()
    sampler = EpochSampler(len(pairs), config.optimizer.global_batch, config.seed, STAGE)

    def draw(step: int, slot: int) -> PreferenceSample:
        pair, generator = pairs[sampler.item(step, slot)], stream(config.seed, STAGE, step, slot)
        return draw_preference_sample(store, generations, pair, config, generator, (STAGE, step, slot))

    objective = preference_objective(frozen_model, config.preference, split_backward=training.machine.split_backward)
    train(training, model, draw, objective)
