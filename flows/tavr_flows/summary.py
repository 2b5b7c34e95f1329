"""The summary of a run as markdown and as tables: the same words in the terminal, in the Prefect page and on disk."""

from collections.abc import Mapping
from typing import Any

_MARKS = {"done": "done", "cached": "cached", "refused": "REFUSED", "failed": "FAILED", "not_run": "not run"}


def stage_table(summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One row a stage."""
    return [
        {
            "stage": stage["name"],
            "state": _MARKS[stage["state"]],
            "seconds": round(stage["seconds"], 1),
            "reason": stage["reason"],
        }
        for stage in summary["stages"]
    ]


def metric_table(summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One row a metric: candidate, baseline, and their difference with its interval, as the benchmark reports them."""
    metrics = summary["metrics"]
    if metrics is None or "methods" not in metrics:
        return []
    candidate, baseline = metrics["candidate"], metrics["baseline"]
    versus = metrics.get(f"versus_{baseline}", {}).get(candidate, {})
    return [
        {
            "metric": name,
            candidate: _number(value["mean"]),
            baseline: _number(metrics["methods"][baseline][name]["mean"]),
            "difference": _interval(versus.get(name)),
        }
        for name, value in metrics["methods"][candidate].items()
    ]


def render_summary(summary: Mapping[str, Any]) -> str:
    """The whole summary as markdown."""
    gate, promotion = summary["gate"], summary["promotion"]
    if promotion is not None:
        moved = f"{promotion['version']} now holds {promotion['target']} ({promotion['tags'][1]})"
        decision = f"**allowed**: {moved}; {summary['published']}"
    elif gate["allow"]:
        decision = f"**allowed** for {gate['target']}, not promoted: nobody asked"
    else:
        decision = f"**refused** for {gate['target']}"
    parts = [
        f"# Run {summary['run_id']}",
        f"profile `{summary['profile']}`, branch `{summary['branch']}`, commit `{summary['commit']}`",
        "## Gate",
        decision,
        "\n".join(f"- {line}" for line in (*gate["reasons"], *gate["notes"])),
        "## Metrics",
        _markdown(metric_table(summary)) or "none: the benchmark did not run",
        "## Checks",
        _markdown(_verdict_table(summary)) or "none ran",
        "## Stages",
        _markdown(stage_table(summary)),
        "## Where things are",
        "\n".join(f"- {name}: `{path}`" for name, path in summary["paths"].items()),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _verdict_table(summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        {
            "check": stage,
            "verdict": "refused" if verdict["critical"] else "passed",
            "rules": verdict["rules"],
            "quarantined": verdict["quarantined"],
            "failed": ", ".join(verdict["failed"]),
        }
        for stage, verdict in sorted(summary["verdicts"].items())
    ]


def _markdown(rows: list[dict[str, Any]]) -> str:
    if not rows:
        return ""
    names = [name for name in rows[0] if any(row[name] != "" for row in rows)]  # a column of nothing says nothing
    lines = [" | ".join(names), " | ".join("---" for _ in names)]
    lines += [" | ".join(str(row[name]).replace("|", "\\|").replace("\n", " ") for name in names) for row in rows]
    return "\n".join(f"| {line} |" for line in lines)


def _number(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, (int, float)) else "-"


def _interval(value: Mapping[str, Any] | None) -> str:
    if value is None or value["mean"] is None:
        return "-"
    return f"{value['mean']:+.3f} [{value['low']:+.3f}, {value['high']:+.3f}]"
