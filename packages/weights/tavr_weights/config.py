"""Types of the parameter section `weights`."""

from dataclasses import dataclass
from typing import Optional


@dataclass
class RoleConfig:
    """Where one network comes from.

    Attributes:
        origin: a folder, `hf://<org>/<repo>[/<subfolder>]`, `s3://<bucket>/<prefix>` or `https://` (a file, a zip).
        revision: commit, tag or branch of a hub repository; null takes the default branch and records what it was.
        files: glob patterns of the wanted files below the origin.
        sha256: digest by file as it stands in `data/weights/<role>`; null = unknown, recorded at the first fetch.
        licence: SPDX id or a `LicenseRef-`.
        convert: null, `torch-safetensors` or `ultralytics-onnx`: how foreign pickles become safe files.
    """

    origin: str
    revision: Optional[str]  # noqa: UP045 - OmegaConf reads this form
    files: list[str]
    sha256: Optional[dict[str, str]]  # noqa: UP045
    licence: str
    convert: Optional[str]  # noqa: UP045


@dataclass
class WeightsConfig:
    """All pretrained networks, by role; `pins` is a JSON file of sha256 pins that roles without their own use."""

    pins: Optional[str]  # noqa: UP045
    roles: dict[str, RoleConfig]
