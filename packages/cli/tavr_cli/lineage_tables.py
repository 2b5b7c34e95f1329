"""How the answers of an audit look in a terminal."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:  # their modules read parquet, which `tavr who-used` does not
    from tavr_lineage.family import Family
    from tavr_lineage.questions import Answer
    from tavr_lineage.trace import Trace

_SHORT = 12


def print_uses(answer: "Answer") -> None:
    """One row a model and stage."""
    console, subject = Console(), answer.subject
    if not answer.models:
        console.print(f"{subject.kind} {subject.value}: in none of {answer.candidates} models")
        return
    clips = f"{len(answer.clips)} clips" if len(answer.clips) != 1 else "1 clip"
    table = Table(title=f"{subject.kind} {subject.value} ({clips})", title_justify="left")
    for column in ("model", "holds", "stage", "clips", "samples", "steps", "if withdrawn"):
        table.add_column(column, no_wrap=column != "model")
    for model in answer.models:
        name = " ".join((model.run_id, *model.versions))
        for number, use in enumerate(model.uses):
            told = (name, ", ".join(model.holds) or "-") if number == 0 else ("", "")
            steps = f"{use.first_step} to {use.last_step}" if use.last_step or use.stage.startswith("stage") else "-"
            remedy = model.remedy if number == 0 else ""
            table.add_row(*told, use.stage, str(use.clips), str(use.samples), steps, remedy)
    console.print(table)
    console.print(f"in {len(answer.models)} of {answer.candidates} models")


def print_traces(answer: "Answer", traces: Sequence["Trace"]) -> None:
    """One table a model."""
    console = Console()
    if not traces:
        console.print(f"clip {answer.subject.value}: in none of {answer.candidates} models")
    for found in traces:
        table = Table(title=f"clip {answer.subject.value[:_SHORT]} in run {found.run_id}", title_justify="left")
        table.add_column("where", no_wrap=True)
        table.add_column("what")
        for stage, rows in found.rows.items():
            for row in rows:
                table.add_row(stage, _row(stage, row))
        for stage, steps in found.steps.items():
            table.add_row(stage, _steps(steps))
        if found.scores:
            table.add_row("benchmark", f"{found.scores} videos were judged by it")
        for exclusion in found.exclusions:
            table.add_row(exclusion["list"], f"left out by {exclusion['rule']}: {exclusion['reason']}")
        for path, digest in found.models.items():
            table.add_row("model", f"{path} sha256 {digest}")
        for path in found.missing:
            table.add_row("not here", f"{path}; fetch it with `dvc pull`")
        console.print(table)


def as_tree(family: "Family") -> str:
    """The stages of a model as indented text."""
    held = ", ".join((*family.standing.versions, *(f"holds {stage}" for stage in family.standing.holds)))
    lines = [f"run {family.run_id} ({held or 'no version'}), commit {family.commit[:_SHORT]}"]
    for node in family.nodes:
        reads = f" <- {', '.join(node.reads)}" if node.reads else ""
        lines.append(f"  {node.name} [{node.state}]{reads}")
        lines += [f"      {name}: {value}" for name, value in node.facts.items()]
    lines += [f"  took unchanged stages from run {parent['run_id']}" for parent in family.parents]
    lines += [f"  run {child} took stages from it" for child in family.children]
    return "\n".join(lines) + "\n"


def print_difference(found: Mapping[str, Any]) -> None:
    """One table a kind of difference; kinds without any are named in one line."""
    console, equal = Console(), list[str]()
    for kind in ("params", "weights"):
        _print_pairs(console, kind, found[kind], equal)
    for kind, values in found["environment"].items():
        _print_pairs(console, kind, values, equal)
    if not found["environment"]:
        equal.append("environment")
    for stage, change in found["data"].items():
        console.print(f"data of {stage}: {change['added']} clips more, {change['removed']} fewer")
    if not found["data"]:
        equal.append("data")
    files = found["code"].get("files")
    if found["code"]:
        console.print(f"code: {'unknown here' if files is None else ', '.join(files) or 'no file'}")
    else:
        equal.append("code")
    metrics = {name: value for name, value in found["metrics"].items() if name != "common_pairs"}
    table = Table(title=f"metrics over {found['metrics']['common_pairs']} common pairs", title_justify="left")
    for column in ("metric", "before", "after", "difference"):
        table.add_column(column, justify="right")
    for name, value in metrics.items():
        table.add_row(name, *(f"{value[part]:.4f}" for part in ("before", "after", "difference")))
    if metrics:
        console.print(table)
    if equal:
        console.print(f"equal: {', '.join(equal)}")


def _print_pairs(console: Console, title: str, values: Mapping[str, Sequence[Any]], equal: list[str]) -> None:
    if not values:
        equal.append(title)
        return
    table = Table(title=title, title_justify="left")
    for column in ("name", "before", "after"):
        table.add_column(column)
    for name, pair in values.items():
        table.add_row(name, *("-" if value is None else str(value)[:60] for value in pair))
    console.print(table)


def _row(stage: str, row: Mapping[str, Any]) -> str:
    match stage:
        case "sources":
            return f"{row['source_key']} {row['start_ms']} to {row['end_ms']} ms, {row['rights']}"
        case "ingest":
            return f"record {row['record_id']}, {row['path']}, person {row['person_id'][:_SHORT]}"
        case "pairs":
            return f"{row['pair_id'][:_SHORT]} ({row['split']}, {row['review']}), similarity {row['id_similarity']:.2f}"
        case "latents":
            return f"{row['shard']} {row['key']} ({row['nbytes']} bytes at {row['offset']})"
        case _:
            return f"{row['preference_id'][:_SHORT]}, margin {row['margin']:.2f}, {row['shard']}"


def _steps(steps: Mapping[str, Any]) -> str:
    ranges = ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in steps["used"])
    skipped = "".join(f"; skipped at {row['step']}: {row['reason']}" for row in steps["skipped"])
    return f"{steps['samples']} samples, steps {ranges or 'none'}{skipped}"
