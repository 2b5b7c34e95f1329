"""What differs between two models: data, parameters, code, environment, metrics."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tavr_lineage.candidates import open_finished
from tavr_lineage.closure import read_consumption
from tavr_lineage.git import GitError, git, read_file, repository_root
from tavr_lineage.record import METRICS

_SHOWN = 20


def compare(root: Path, before: str, after: str) -> dict[str, Any]:
    """Everything in which two models (run id, version or commit) differ; what is equal is left out.

    Raises:
        InputError: no such model, or a commit without a record.
    """
    root = repository_root(root)
    sides = [open_finished(root, name) for name in (before, after)]
    (one, first), (two, second) = ((side.commit, side.record) for side in sides)
    return {
        "models": [
            {"name": name, "commit": commit, "run": record["run"]["run_id"]}
            for name, commit, record in ((before, one, first), (after, two, second))
        ],
        "data": _data(root, (one, first), (two, second)),
        "params": _flat_difference(_flatten(first["params"]), _flatten(second["params"])),
        "code": _code(root, first["code"]["commit"], second["code"]["commit"]),
        "environment": _environment(root, (one, first), (two, second)),
        "weights": _flat_difference(
            {row["path"]: row["sha256"] for row in first["weights"]},
            {row["path"]: row["sha256"] for row in second["weights"]},
        ),
        "metrics": _metrics(first, second),
    }


def _data(
    root: Path, before: tuple[str, Mapping[str, Any]], after: tuple[str, Mapping[str, Any]]
) -> dict[str, dict[str, Any]]:
    """Of each stage: how many clips came and went, and the first of their ids."""
    one, two = ({(row["stage"], row["clip_id"]) for row in _used(root, *side)} for side in (before, after))
    found: dict[str, dict[str, Any]] = {}
    for stage in sorted({stage for stage, _ in one ^ two}):
        added = sorted(clip for named, clip in two - one if named == stage)
        removed = sorted(clip for named, clip in one - two if named == stage)
        found[stage] = {
            "added": len(added),
            "removed": len(removed),
            "added_clips": added[:_SHOWN],
            "removed_clips": removed[:_SHOWN],
        }
    return found


def _used(root: Path, commit: str, record: Mapping[str, Any]) -> list[dict[str, Any]]:
    table = read_consumption(root, commit, record)
    return table.select(["stage", "clip_id"]).to_pylist()


def _code(root: Path, before: str, after: str) -> dict[str, Any]:
    """Files that differ between the two commits the runs were made from."""
    if before == after:
        return {}
    try:
        changed = git(root, "diff", "--name-only", before, after).splitlines()
    except GitError as error:
        return {"commits": [before, after], "files": None, "why": str(error)}
    return {"commits": [before, after], "files": changed}


def _environment(
    root: Path, before: tuple[str, Mapping[str, Any]], after: tuple[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """Machine facts and pinned packages that differ."""
    machines = [_flatten(record["environment"]["platform"]) for _, record in (before, after)]
    pins = [_pins(read_file(root, commit, "requirements.lock")) for commit, _ in (before, after)]
    found = {"platform": _flat_difference(*machines), "packages": _flat_difference(*pins)}
    return {name: value for name, value in found.items() if value}


def _pins(lock: bytes | None) -> dict[str, Any]:
    """Package -> version of a requirements.lock."""
    lines = (lock or b"").decode().splitlines()
    return dict(line.split(" ")[0].split("==", 1) for line in lines if "==" in line and not line.startswith((" ", "#")))


def _metrics(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """Means of the two candidates, and the mean of the paired differences over the benchmark pairs both have."""
    one, two = (_scores(record) for record in (before, after))
    common = sorted(set(one) & set(two))
    found: dict[str, Any] = {"common_pairs": len(common)}
    for metric in METRICS:
        values = [
            (one[pair][metric], two[pair][metric])
            for pair in common
            if one[pair][metric] is not None and two[pair][metric] is not None
        ]
        if values:
            mean = [sum(side) / len(values) for side in zip(*values, strict=True)]
            found[metric] = {"before": mean[0], "after": mean[1], "difference": mean[1] - mean[0], "pairs": len(values)}
    return found


def _scores(record: Mapping[str, Any]) -> Mapping[str, Any]:
    benchmark = record["benchmark"]
    return {} if benchmark is None else benchmark["scores"][benchmark["metrics"]["candidate"]]


def _flatten(value: Any, prefix: str = "") -> dict[str, Any]:
    """Nested mappings as dotted names."""
    if not isinstance(value, Mapping):
        return {prefix: value}
    flat: dict[str, Any] = {}
    for name, item in value.items():  # pyright: ignore[reportUnknownVariableType]
        flat |= _flatten(item, f"{prefix}.{name}" if prefix else str(name))  # pyright: ignore[reportUnknownArgumentType]
    return flat


def _flat_difference(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Name -> [before, after] where they differ; None where one lacks the name."""
    names = sorted({*before, *after})
    return {name: [before.get(name), after.get(name)] for name in names if before.get(name) != after.get(name)}
