"""Run a check: rules through Great Expectations, then verdict, quarantine and page, all with stable bytes."""

import dataclasses
import logging
import math
import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tavr_records.errors import InputError
from tavr_records.manifest import write_manifest
from tavr_records.schemas import Refused
from tavr_records.verdict import CheckResult, Verdict, write_verdict

from tavr_checks.report import write_report
from tavr_checks.suite import Rule

Mask = NDArray[np.bool_]  # [rows], True = offending row
_QUARANTINING = ("critical", "warning")


def run_check(
    stage: str,
    table: pd.DataFrame,
    expectations: Sequence[Rule],
    id_column: str,
    reports: Path = Path("reports"),
) -> Verdict:
    """Judge `table` and write `reports/<stage>/{verdict.json, quarantine.parquet, index.html}`.

    A failed check is an answer, not an error: the caller exits 0 and later stages read the verdict.

    Args:
        stage: the stage whose output is judged.
        table: one row per record, `id_column` naming it.
        expectations: the rules, each with its own id.
        id_column: the column whose values go to the quarantine.
        reports: folder of all reports.

    Raises:
        InputError: a column a rule reads is missing from the table.
        ValueError: two rules share an id.
    """
    _demand_columns(stage, table, expectations, id_column)
    masks = {rule.id: _mask(rule, table) for rule in expectations if rule.row_mask is not None}
    outcomes = _validate(table.reset_index(drop=True), expectations, masks)
    verdict = Verdict(stage, tuple(_judge(rule, outcomes[rule.id], masks.get(rule.id)) for rule in expectations))
    quarantine = [
        row
        for rule in expectations
        if rule.id in masks and rule.severity in _QUARANTINING
        for row in _refuse(rule, table, masks[rule.id], id_column)
    ]
    quarantine = sorted(set(quarantine), key=lambda row: (row.record_id, row.rule))
    folder = reports / stage
    write_manifest(folder / "quarantine.parquet", Refused, quarantine, ("record_id", "rule"))
    write_report(folder / "index.html", verdict, quarantine, table, id_column)
    write_verdict(folder / "verdict.json", verdict)
    return verdict


def _demand_columns(stage: str, table: pd.DataFrame, rules: Sequence[Rule], id_column: str) -> None:
    ids = [rule.id for rule in rules]
    if len(set(ids)) != len(ids):
        raise ValueError(f"check of {stage}: rule ids are not unique: {sorted(i for i in ids if ids.count(i) > 1)}")
    wanted = {id_column, *(column for rule in rules for column in rule.columns)}
    missing = sorted(wanted - set(table.columns))
    if missing:
        raise InputError(f"check of {stage}: the table has no column {', '.join(missing)}; run the stage again")


def _mask(rule: Rule, table: pd.DataFrame) -> Mask:
    assert rule.row_mask is not None
    return np.asarray(rule.row_mask(table), dtype=np.bool_)


def _validate(table: pd.DataFrame, rules: Sequence[Rule], masks: Mapping[str, Mask]) -> dict[str, dict[str, Any]]:
    """Outcome of each rule by id, from one validation of the rows and one of the single numbers."""
    own = [rule for rule in rules if rule.passed is None and not rule.derived]
    derived = {rule.id: masks[rule.id] for rule in rules if rule.derived}
    numbers = pd.DataFrame({rule.id: [rule.passed] for rule in rules if rule.passed is not None})
    # Columns made here stand in a table of their own, so that no manifest column can collide with a rule's id.
    return (
        _run_great_expectations("rows", table, own)
        | _run_great_expectations("conditions", pd.DataFrame(derived), [rule for rule in rules if rule.derived])
        | _run_great_expectations("numbers", numbers, [rule for rule in rules if rule.passed is not None])
    )


def _run_great_expectations(name: str, table: pd.DataFrame, rules: Sequence[Rule]) -> dict[str, dict[str, Any]]:
    """Validate one table in an ephemeral context; nothing is written and nothing leaves the process."""
    if not rules:
        return {}
    os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # third-party deprecations at import are not ours to mend
        import great_expectations as gx
        import great_expectations.expectations as gxe

        logging.getLogger("great_expectations").setLevel(logging.ERROR)
        context: Any = gx.get_context(mode="ephemeral")
        context.variables.progress_bars = {"globally": False}
        asset = context.data_sources.add_pandas(name).add_dataframe_asset(name)
        suite = context.suites.add(gx.ExpectationSuite(name=name))
        for rule in rules:
            suite.add_expectation(rule.expectation(gxe, severity=rule.severity, meta={"rule": rule.id}))
        definition = gx.ValidationDefinition(
            name=name, data=asset.add_batch_definition_whole_dataframe(name), suite=suite
        )
        result: Any = context.validation_definitions.add(definition).run(
            batch_parameters={"dataframe": table}, result_format={"result_format": "SUMMARY"}
        )
    return {
        entry.expectation_config.meta["rule"]: {"success": bool(entry.success), **_explain(entry)}
        for entry in result.results
    }


def _explain(entry: Any) -> dict[str, Any]:
    """What one expectation saw; an expectation that crashed is a programming error and raises."""
    info = entry.exception_info or {}
    if info.get("raised_exception") or any(
        isinstance(value, dict) and value.get("raised_exception") for value in info.values()
    ):
        raise RuntimeError(f"{entry.expectation_config.type}: {info}")
    return dict(entry.result)


def _judge(rule: Rule, outcome: Mapping[str, Any], mask: Mask | None) -> CheckResult:
    if rule.passed is not None:
        observed = rule.observed
    elif mask is not None:
        observed = int(mask.sum())
    else:
        observed = outcome.get("observed_value", outcome.get("unexpected_count"))
    # The mask also counts NaN, which Great Expectations leaves out of ranges and sets.
    passed = bool(outcome["success"]) and (mask is None or not bool(mask.any()))
    return CheckResult(rule.id, rule.severity, passed, _plain(observed), _plain(rule.limit))


def _refuse(rule: Rule, table: pd.DataFrame, mask: Mask, id_column: str) -> list[Refused]:
    quoted = [column for column in rule.columns if column != id_column]
    rows = table.loc[mask, [id_column, *quoted]]
    return [
        Refused(
            str(row[0]),
            rule.id,
            ", ".join(f"{column} {_plain(value)!r}" for column, value in zip(quoted, row[1:], strict=True))
            or f"breaks {rule.id}: {rule.limit}",
        )
        for row in rows.itertuples(index=False, name=None)
    ]


def _plain(value: Any) -> Any:
    """A JSON value: numpy scalars become Python's, NaN and infinities become their names, floats are rounded."""
    if dataclasses.is_dataclass(value) or isinstance(value, (list, tuple, np.ndarray)):
        return [_plain(item) for item in value]  # type: ignore[union-attr]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return float(f"{value:.9g}") if math.isfinite(value) else str(value)
    if value is None or isinstance(value, (bool, int, str)):
        return value
    return str(value)
