"""What a model came from: its stages with their data and digests, the runs before it, and what became of it."""

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tavr_lineage.candidates import Standing, candidate_commits, open_finished, read_record, standings
from tavr_lineage.git import repository_root
from tavr_lineage.policy import artifact_name


@dataclass(frozen=True)
class Node:
    """One stage of a candidate.

    Attributes:
        state: as the record has it (done, cached, refused, failed, not_run).
        reads: stages whose outputs it read.
        facts: what to say of it, name -> text.
    """

    name: str
    state: str
    reads: tuple[str, ...]
    facts: Mapping[str, str]


@dataclass(frozen=True)
class Family:
    """A model and where it stands: its stages in the order they ran, and its parents, nearest first."""

    run_id: str
    commit: str
    record_sha256: str
    standing: Standing
    nodes: tuple[Node, ...]
    parents: tuple[dict[str, str], ...]
    children: tuple[str, ...]


def trace_family(root: Path, model: str) -> Family:
    """The lineage of a model named by run id, version or commit.

    Raises:
        InputError: no such model, or a commit without a record.
    """
    root = repository_root(root)
    artifact = artifact_name(root)
    found = open_finished(root, model)
    records = [record for other in candidate_commits(root, artifact) if (record := read_record(root, other))]
    by_run = {record["run"]["run_id"]: record for record in records}
    return Family(
        found.run_id,
        found.commit,
        found.record_sha256,
        standings(root, artifact).get(found.commit, Standing()),
        tuple(_nodes(found.record)),
        tuple(_ancestors(found.record, by_run)),
        tuple(sorted(name for name, record in by_run.items() if found.run_id in _parents(record))),
    )


def as_mermaid(family: Family) -> str:
    """The stages as a mermaid flowchart."""
    lines = ["flowchart TD"]
    for node in family.nodes:
        told = "<br>".join([node.name, *(f"{name}: {value}" for name, value in node.facts.items())])
        lines.append(f'  {node.name}["{_quoted(told)}"]')
        lines += [f"  {other} --> {node.name}" for other in node.reads]
    last = family.nodes[-1].name if family.nodes else "nothing"
    held = ", ".join((*family.standing.versions, *(f"holds {stage}" for stage in family.standing.holds)))
    lines += [f'  model(["run {family.run_id}<br>{_quoted(held or "no version")}"])', f"  {last} --> model"]
    lines += [
        f'  {parent["run_id"].replace("-", "_")}(["run {parent["run_id"]}"]) -.-> model' for parent in family.parents
    ]
    return "\n".join(lines) + "\n"


def as_html(family: Family) -> str:
    """The same as one page without scripts or outside resources."""
    rows = "".join(
        f"<tr><td>{_cell(node.name)}</td><td>{_cell(node.state)}</td><td>{_cell(', '.join(node.reads))}</td>"
        f"<td>{'<br>'.join(f'{_cell(name)}: {_cell(value)}' for name, value in node.facts.items())}</td></tr>"
        for node in family.nodes
    )
    parents = "".join(f"<li>run {_cell(parent['run_id'])}</li>" for parent in family.parents) or "<li>none</li>"
    held = ", ".join((*family.standing.versions, *(f"holds {stage}" for stage in family.standing.holds))) or "none"
    return (
        "<!doctype html><html lang='en'><meta charset='utf-8'><title>Lineage</title>"
        "<style>body{font-family:sans-serif;margin:2em}td,th{border:1px solid #ccc;padding:.3em;vertical-align:top}"
        "table{border-collapse:collapse}</style>"
        f"<h1>Run {_cell(family.run_id)}</h1><p>commit <code>{_cell(family.commit)}</code>, record "
        f"<code>{_cell(family.record_sha256)}</code>, versions: {_cell(held)}</p>"
        "<table><tr><th>stage</th><th>state</th><th>reads</th><th>facts</th></tr>"
        f"{rows}</table><h2>Earlier runs it took stages from</h2><ul>{parents}</ul></html>\n"
    )


def _nodes(record: Mapping[str, Any]) -> list[Node]:
    stages = record["dvc"]["stages"]
    made_by = {out["path"]: name for name, stage in stages.items() for out in stage.get("outs", [])}
    states = {stage["name"]: stage["state"] for stage in record["stages"]}
    order = [name for name in states if name in stages] or sorted(stages)
    return [
        Node(name, states.get(name, ""), tuple(_reads(stages[name], made_by, order)), _facts(record, name))
        for name in order
    ]


def _reads(stage: Mapping[str, Any], made_by: Mapping[str, str], order: Sequence[str]) -> list[str]:
    """Stages whose outputs, or parts of them, a stage depends on."""
    found: set[str] = set()
    for dep in stage.get("deps", []):
        for path, name in made_by.items():
            if dep["path"] == path or dep["path"].startswith(f"{path}/") or path.startswith(f"{dep['path']}/"):
                found.add(name)
    return [name for name in order if name in found]


def _facts(record: Mapping[str, Any], name: str) -> dict[str, str]:
    facts: dict[str, str] = {}
    if name in record["ledgers"]:
        ledger = record["ledgers"][name]
        facts["trained on"] = f"{ledger['clips']} clips, {ledger['used']} samples"
        facts["steps"] = f"{ledger['first_step']} to {ledger['last_step']}"
    if name.startswith("check_") and name.removeprefix("check_") in record["verdicts"]:
        verdict = record["verdicts"][name.removeprefix("check_")]
        facts["verdict"] = "critical" if verdict["critical"] else f"passed, {len(verdict['checks'])} rules"
    if name == "weights":
        facts["files"] = str(len(record["weights"]))
    outs = record["dvc"]["stages"][name].get("outs", [])
    return facts | {out["path"]: f"md5 {out['md5'][:12]}" for out in outs}


def _parents(record: Mapping[str, Any]) -> list[str]:
    return [parent["run_id"] for parent in record["run"]["parents"]]


def _ancestors(record: Mapping[str, Any], by_run: Mapping[str, Mapping[str, Any]]) -> list[dict[str, str]]:
    """Every run this one took stages from, and theirs; a damaged circle ends."""
    found: dict[str, dict[str, str]] = {}
    waiting = list(record["run"]["parents"])
    while waiting:
        parent = waiting.pop(0)
        if parent["run_id"] not in found:
            found[parent["run_id"]] = dict(parent)
            waiting += by_run.get(parent["run_id"], {"run": {"parents": []}})["run"]["parents"]
    return list(found.values())


def _quoted(text: str) -> str:
    return text.replace('"', "#quot;")


def _cell(text: str) -> str:
    return html.escape(str(text))
