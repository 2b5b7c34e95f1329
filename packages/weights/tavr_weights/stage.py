"""The stage `weights`: fetch every pretrained network, verify each file, write them with their manifest."""

from pathlib import Path

from tavr_records.manifest import write_manifest
from tavr_records.schemas import PinnedWeight
from tqdm import tqdm

from tavr_weights.config import WeightsConfig
from tavr_weights.convert import convert_files
from tavr_weights.origins import fetch
from tavr_weights.pins import Pin, read_pins, role_pins
from tavr_weights.place import place_role


def weights(config: WeightsConfig, root: Path = Path()) -> None:
    """Bring each role's files to `data/weights/<role>` and list them in `data/weights/manifest.parquet`.

    A role appears whole or not at all; what was downloaded stays in `.work/weights`, so that the next run carries on.

    Raises:
        InputError: a file is missing or its sha256 differs from its pin; the message names file, both and the remedy.
    """
    known = read_pins(root / config.pins) if config.pins is not None else []
    rows: list[PinnedWeight] = []
    for role, wanted in tqdm(sorted(config.roles.items()), desc="weights", unit="role"):
        pins = role_pins(role, wanted, known)
        cache = root / ".work" / "weights" / role
        fetched = fetch(role, wanted, None if wanted.convert else _names(pins), cache / "fetched", root)
        if wanted.convert:
            fetched = convert_files(wanted.convert, fetched, cache / "converted")
        placed = place_role(role, fetched, pins, root / "data" / "weights" / role)
        rows += [
            PinnedWeight(
                path=f"{role}/{name}",
                role=role,
                origin=wanted.origin,
                revision=fetched.revision,
                sha256=digest,
                licence=pins[name].licence if pins is not None else wanted.licence,
            )
            for name, digest in placed.items()
        ]
    write_manifest(root / "data" / "weights" / "manifest.parquet", PinnedWeight, rows, ("path",))


def _names(pins: dict[str, Pin] | None) -> list[str] | None:
    return None if pins is None else sorted(pins)
