"""Every export format, the files it can be written as, and writing them."""

from collections.abc import Callable, Mapping
from pathlib import Path

from tavr_records.atomic import write_bytes
from tavr_records.errors import InputError
from tavr_records.ids import canonical_json, sha256_bytes

from tavr_lineage.exports.annex_iv import annex_iv
from tavr_lineage.exports.croissant import croissant
from tavr_lineage.exports.cyclonedx import cyclonedx_bom
from tavr_lineage.exports.dossier import Dossier
from tavr_lineage.exports.pages import render_html, render_markdown
from tavr_lineage.exports.training_summary import training_summary

Render = Callable[[Dossier], bytes]


def _openlineage(dossier: Dossier) -> bytes:
    from tavr_lineage.exports.openlineage import openlineage_events, to_lines

    return to_lines(openlineage_events(dossier))


def _prov(suffix: str) -> Render:
    def render(dossier: Dossier) -> bytes:
        from tavr_lineage.exports.prov import prov_document, render_prov

        return render_prov(prov_document(dossier), suffix)

    return render


FORMATS: Mapping[str, Mapping[str, Render]] = {
    "openlineage": {".jsonl": _openlineage},
    "prov": {".json": _prov(".json"), ".provn": _prov(".provn")},
    "cyclonedx": {".json": lambda dossier: canonical_json(cyclonedx_bom(dossier)) + b"\n"},
    "croissant": {".json": lambda dossier: canonical_json(croissant(dossier)) + b"\n"},
    "annex-iv": {
        ".md": lambda dossier: render_markdown(annex_iv(dossier)),
        ".html": lambda dossier: render_html(annex_iv(dossier)),
    },
    "art-53": {
        ".md": lambda dossier: render_markdown(training_summary(dossier)),
        ".html": lambda dossier: render_html(training_summary(dossier)),
    },
}
"""Of each format, the suffixes it is written with."""


def demand_format(name: str) -> Mapping[str, Render]:
    """A format's files.

    Raises:
        InputError: no such format.
    """
    if name not in FORMATS:
        raise InputError(f"--format: {name!r} is none; use one of {', '.join(FORMATS)}")
    return FORMATS[name]


def write_export(dossier: Dossier, name: str, out: Path) -> dict[str, str]:
    """Write a format to a file, or to a folder in each of its forms; returns path -> sha256 of what was written.

    Raises:
        InputError: no such format, or the file's suffix is none of its own.
    """
    renders = demand_format(name)
    if out.is_dir() or not out.suffix:
        targets = {out / f"{name}{suffix}": render for suffix, render in renders.items()}
    elif out.suffix in renders:
        targets = {out: renders[out.suffix]}
    else:
        raise InputError(f"{out}: {name} is written as {' or '.join(renders)}; name such a file, or a folder")
    written: dict[str, str] = {}
    for path, render in targets.items():
        data = render(dossier)
        write_bytes(path, data)
        written[str(path)] = sha256_bytes(data)
    return written
