"""Licences of pinned packages, as each package declares its own: `requirements.licences.json`, made by `make lock`.

An export must give the same bytes on every machine, so it reads this committed table and not what is installed there.
"""

import importlib.metadata
import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tavr_records.atomic import write_bytes

_PIN = re.compile(r"^(?P<name>[A-Za-z0-9._-]+)==(?P<version>[^\s;\\]+)")
_HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")
_CLASSIFIER = "License :: OSI Approved :: "
# What weights and data of this project are under; a name that is not here goes out as a name, never as an SPDX id.
SPDX = frozenset(
    {
        *("AGPL-3.0-only", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "CC0-1.0", "CC-BY-4.0", "CC-BY-SA-3.0"),
        *("CC-BY-SA-4.0", "CC-BY-NC-4.0", "CC-BY-NC-SA-4.0", "GPL-2.0-only", "GPL-3.0-only", "MIT", "MPL-2.0"),
    }
)


@dataclass(frozen=True)
class Pin:
    """One package of `requirements.lock` with the sha256 of every file it may be installed from."""

    name: str
    version: str
    hashes: tuple[str, ...]

    @property
    def key(self) -> str:
        """`name==version`."""
        return f"{self.name}=={self.version}"


def read_pins(requirements: bytes) -> list[Pin]:
    """The packages of a hash-pinned list, as they stand."""
    pins: list[Pin] = []
    for line in requirements.decode().splitlines():
        if found := _PIN.match(line):
            pins.append(Pin(found["name"], found["version"], ()))
        if pins and (digest := _HASH.search(line)):
            last = pins[-1]
            pins[-1] = Pin(last.name, last.version, (*last.hashes, digest[1]))
    return pins


def declared_licences(pins: Sequence[Pin]) -> Iterator[tuple[str, str]]:
    """(`name==version`, licence) of every pin that is installed in just that version and says its licence."""
    for pin in pins:
        try:
            found = importlib.metadata.distribution(pin.name)
        except importlib.metadata.PackageNotFoundError:
            continue
        if found.version == pin.version and (licence := _declared(found.metadata)):
            yield pin.key, licence


def _declared(metadata: Any) -> str:
    """A package's own words: its SPDX expression, else a licence field of one line, else its classifiers."""
    if expression := metadata.get("License-Expression"):
        return str(expression)
    classified = [name for name in metadata.get_all("Classifier") or [] if name.startswith(_CLASSIFIER)]
    if classified:
        return "; ".join(name.removeprefix(_CLASSIFIER) for name in classified)
    text = str(metadata.get("License") or "").strip()
    return text if "\n" not in text and text.upper() != "UNKNOWN" else ""


def cyclonedx_licence(name: str) -> dict[str, Any]:
    """A licence of a weight or a data set as CycloneDX writes it: by SPDX id, else by name (such as LicenseRef-...)."""
    return {"license": {"id": name} if name in SPDX else {"name": name}}


def render_licences(licences: Mapping[str, str]) -> bytes:
    """The table as it is committed."""
    return json.dumps(dict(licences), indent=1, sort_keys=True, ensure_ascii=False).encode() + b"\n"


def main(requirements: str, out: str) -> None:
    """Write the table for a hash-pinned list, from what is installed."""
    write_bytes(Path(out), render_licences(dict(declared_licences(read_pins(Path(requirements).read_bytes())))))


if __name__ == "__main__":
    main(*sys.argv[1:])
