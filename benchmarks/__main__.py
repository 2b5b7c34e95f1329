"""`python -m benchmarks`: measure every ratio and print one table; README.md says how to read it."""

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import asdict

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.case import Case, Drift
from benchmarks.guidance_gate import gate_case
from benchmarks.method import LEAST_PAIRS, NOISE_LIMIT, Measurement, Target, evaluate, measure
from benchmarks.packing import MIXED, REFERENCE_ONLY, packing_case
from benchmarks.reference_cache import cache_case, longer_case, selection_case

BENCHMARKS: dict[str, Callable[[], Case]] = {
    "reference-cache-20": lambda: cache_case(20),
    "reference-cache-48": lambda: cache_case(48),
    "selection-and-cache-20": lambda: selection_case(20),
    "selection-and-cache-48": lambda: selection_case(48),
    "longer-reference": longer_case,
    "guidance-gate": gate_case,
    "packing-reference-only": lambda: packing_case("reference streams", REFERENCE_ONLY),
    "packing-mixed": lambda: packing_case("samples of mixed lengths", MIXED),
}
METHOD = (
    "One thread. Every round times anchor, anchor, ours, or backwards in every other round; a ratio is the median of "
    f"the rounds' ratios. Inconclusive: fewer than {LEAST_PAIRS} pairs, or A/A beyond {NOISE_LIMIT:.0%}."
)


def print_table(found: dict[str, tuple[Case, Measurement]], width: int | None) -> None:
    """The results, one row a benchmark, and how they were measured."""
    console, table = Console(width=width), Table(title="Speed ratios")
    table.add_column("benchmark", no_wrap=True)
    for column in ("what", "anchor"):
        table.add_column(column, ratio=1)
    for column in ("measured", "analytic", "target", "A/A", "pairs", "drift", "verdict"):
        table.add_column(column, justify="right", no_wrap=True)
    for name, (case, result) in found.items():
        table.add_row(
            name, case.what, case.anchor, f"{result.ratio:.3f}", f"{case.analytic:.3f}", show_target(case.target),
            f"{result.control:.3f}", str(result.pairs), show_drift(case.drift), result.verdict,
        )  # fmt: skip
    console.print(table)
    console.print(METHOD)


def show_target(target: Target) -> str:
    """The bound, and on which side of it a ratio should be."""
    return f"{'<=' if target.growth else '>='} {target.bound:.3f}"


def show_drift(drift: Drift | None) -> str:
    """Relative change of the latents and PSNR of the frames; a dash where nothing changes."""
    return "-" if drift is None else f"{drift.latents:.1%}, {drift.psnr:.1f} dB"


def as_json(found: dict[str, tuple[Case, Measurement]]) -> str:
    """The same as plain numbers, a list with one object a benchmark."""
    rows = [
        {
            "name": name,
            "what": case.what,
            "anchor": case.anchor,
            "analytic": case.analytic,
            "target": asdict(case.target),
            "drift": None if case.drift is None else asdict(case.drift),
            **asdict(result),
        }
        for name, (case, result) in found.items()
    ]
    return json.dumps(rows, indent=2)


def main(arguments: list[str]) -> None:
    """Measure what is asked for; a missed target does not make the command fail, wall time gates nothing."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=METHOD)
    parser.add_argument("--pairs", type=int, default=LEAST_PAIRS, help="rounds of each benchmark")
    parser.add_argument("--only", action="append", choices=list(BENCHMARKS), help="may be given more than once")
    parser.add_argument("--json", action="store_true", help="plain numbers instead of the table")
    given = parser.parse_args(arguments)
    if given.pairs < 1:
        parser.error(f"--pairs is {given.pairs}; give at least 1")
    torch.set_num_threads(1)
    found: dict[str, tuple[Case, Measurement]] = {}
    for name in given.only or BENCHMARKS:
        print(f"{name}: {given.pairs} pairs", file=sys.stderr)
        with torch.inference_mode():
            case = BENCHMARKS[name]()
            found[name] = case, evaluate(measure(case.run_anchor, case.run_ours, given.pairs), case.target)
    if given.json:
        print(as_json(found))
    else:
        print_table(found, None if sys.stdout.isatty() else 160)


if __name__ == "__main__":
    main(sys.argv[1:])
