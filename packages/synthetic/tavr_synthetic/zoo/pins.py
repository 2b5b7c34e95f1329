"""`zoo/manifest.json`: every file of the zoo with its sha256, licence and the command that makes it."""

import json
from pathlib import Path

from tavr_records.atomic import write_bytes
from tavr_records.ids import sha256_file

COMMANDS = {
    "text_encoder": "python -m tavr_synthetic.zoo.text_encoder --out packages/synthetic/zoo",
    "tokenizer": "python -m tavr_synthetic.zoo.text_encoder --out packages/synthetic/zoo",
    "speech": "python -m tavr_synthetic.zoo.speech --out packages/synthetic/zoo",
    "lipsync": "python -m tavr_synthetic.zoo.lipsync --out packages/synthetic/zoo --cache .work/zoo",
    "reward": "python -m tavr_synthetic.zoo.reward --out packages/synthetic/zoo --cache .work/zoo",
    "detector": "python -m tavr_synthetic.zoo.detector --out packages/synthetic/zoo/identity",
    "identity": "python -m tavr_synthetic.zoo.identity --out packages/synthetic/zoo/identity",
    "keypoints": "python -m tavr_synthetic.zoo.keypoints --out packages/synthetic/zoo/keypoints",
    "people": "python -m tavr_synthetic.zoo.people --out packages/synthetic/zoo/people",
    "vae": "python -m tavr_synthetic.zoo.vae --out packages/synthetic/zoo/vae",
    "base": "python -m tavr_synthetic.zoo.base --zoo packages/synthetic/zoo --out packages/synthetic/zoo/base",
    "scheduler": "python -m tavr_synthetic.zoo.base --zoo packages/synthetic/zoo --out packages/synthetic/zoo/base",
}
LICENCES = {"people": "AGPL-3.0-only"}


def write_pins(zoo: Path) -> None:
    """Write the manifest of all files below `zoo`."""
    files = sorted(path for path in zoo.rglob("*") if path.is_file() and path.name != "manifest.json")
    rows = [
        {
            "path": str(path.relative_to(zoo)),
            "role": (role := path.relative_to(zoo).parts[0]),
            "sha256": sha256_file(path),
            "licence": LICENCES.get(role, "Apache-2.0"),
            "command": COMMANDS["detector" if path.name == "det.onnx" else role],
        }
        for path in files
    ]
    write_bytes(zoo / "manifest.json", (json.dumps({"files": rows}, indent=1) + "\n").encode())
