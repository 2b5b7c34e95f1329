"""What a finished run needs on top to be published: pretrained weights, and parameters that name the trained model."""

import hashlib
import random
from collections.abc import Callable
from pathlib import Path

import yaml
from tavr_records.manifest import write_manifest
from tavr_records.schemas import PinnedWeight

BENCHMARK = {"candidate": "ours", "methods": {"ours": {"model": "data/stage3/model"}}}
PRETRAINED = random.Random(1).randbytes(300_000)
BIG = 40 * 2**20 + 12345


def publishable(seed: int = 0, big: int = 0) -> Callable[[Path], None]:
    """A spoiler for `finish`: the pretrained file is the same for every seed; `big` adds a trained file of that size."""

    def spoil(worktree: Path) -> None:
        path = worktree / "data/weights/vae/model.safetensors"
        path.parent.mkdir(parents=True)
        path.write_bytes(PRETRAINED)
        digest = hashlib.sha256(PRETRAINED).hexdigest()
        weight = PinnedWeight("vae/model.safetensors", "vae", "zoo/vae", "", digest, "Apache-2.0")
        write_manifest(worktree / "data/weights/manifest.parquet", PinnedWeight, [weight], ("path",))
        random_bytes = random.Random(f"trained {seed}").randbytes
        (worktree / "data/stage3/model/model.safetensors").write_bytes(random_bytes(100_000))
        if big:
            (worktree / "data/stage3/model/part two.safetensors").write_bytes(random_bytes(big))
        params = yaml.safe_load((worktree / "params.yaml").read_text())
        (worktree / "params.yaml").write_text(yaml.safe_dump(params | {"benchmark": BENCHMARK}))

    return spoil
