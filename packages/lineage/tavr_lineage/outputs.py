"""Whether what is stored is what the record says: DVC's cache and the candidate's commit against every digest."""

import json
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import yaml
from tavr_records.ids import sha256_bytes, sha256_file

from tavr_lineage.git import read_file


def find_mismatches(
    root: Path, commit: str, record: Mapping[str, Any], cache: Path, purged: Collection[str] = ()
) -> list[str]:
    """One line for each stored file that is missing or differs from the record.

    Args:
        root: any checkout of the repository.
        commit: the candidate's commit.
        record: its record.
        cache: the DVC cache (`.dvc/cache` of the main checkout).
        purged: outputs that a purge's certificate names as removed, and that may be missing.
    """
    lock = read_file(root, commit, "dvc.lock")
    stored = dict(stored_files(lock or b"", cache))
    problems = list(_committed(root, commit, record, lock))
    for path, digest in sorted(record["outputs"].items()):
        file = stored.get(path)
        if file is None:
            problems.append(f"{path}: its output folder is not in the DVC cache or not in dvc.lock; try `dvc pull`")
        elif not file.is_file() and path in purged:
            continue
        elif not file.is_file():
            problems.append(f"{path} is not in the DVC cache ({file.name[:8]}); fetch it with `dvc pull`")
        elif sha256_file(file) != digest:
            problems.append(f"{path} in the DVC cache differs from the record's sha256")
    return problems


def _committed(root: Path, commit: str, record: Mapping[str, Any], lock: bytes | None) -> Iterator[str]:
    """Files of the commit that the record pins: dvc.lock, params.yaml, requirements.lock, verdicts, consumption."""
    if (sha256_bytes(lock) if lock is not None else None) != record["dvc"]["lock_sha256"]:
        yield "dvc.lock of the commit differs from the record"
    requirements = read_file(root, commit, "requirements.lock")
    if (sha256_bytes(requirements) if requirements is not None else None) != record["environment"]["lock_sha256"]:
        yield "requirements.lock of the commit differs from the record"
    params = read_file(root, commit, "params.yaml")
    if params is None or yaml.safe_load(params) != record["params"]:
        yield "params.yaml of the commit differs from the record"
    for stage, verdict in sorted(record["verdicts"].items()):
        path = f"reports/{stage}/verdict.json"
        data = read_file(root, commit, path)
        told = {key: value for key, value in verdict.items() if key != "sha256"}
        if data is None or sha256_bytes(data) != verdict["sha256"] or json.loads(data) != told:
            yield f"{path} of the commit differs from the record"
    table = read_file(root, commit, record["consumption"]["path"])
    if table is None or sha256_bytes(table) != record["consumption"]["sha256"]:
        yield f"{record['consumption']['path']} of the commit differs from the record"


def _outs(lock: bytes) -> Iterator[dict[str, Any]]:
    document = cast("dict[str, Any]", yaml.safe_load(lock) or {})
    for stage in document.get("stages", {}).values():
        yield from stage.get("outs", [])


def stored_files(lock: bytes, cache: Path) -> Iterator[tuple[str, Path]]:
    """(path in the checkout, file in the cache) of every output file that dvc.lock names."""
    for out in _outs(lock):
        digest = str(out["md5"])
        stored = _cached(cache, digest)
        if not digest.endswith(".dir"):
            yield str(out["path"]), stored
        elif stored.is_file():
            for entry in json.loads(stored.read_bytes()):
                yield f"{out['path']}/{entry['relpath']}", _cached(cache, entry["md5"])


def _cached(cache: Path, digest: str) -> Path:
    return cache / "files" / "md5" / digest[:2] / digest[2:]
