"""The rules a check is made of: a Great Expectations expectation, its severity, and which rows break it.

A rule with a `row_mask` names offending rows; those of severity critical or warning go to quarantine and later stages
leave them out. A critical rule that fails stops the later stages altogether. Builders cover what the stages need.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd
from tavr_records.withdrawals import Withdrawal, find_withdrawn

Severity = Literal["critical", "warning", "info"]
RowMask = Callable[[pd.DataFrame], Any]  # boolean [rows], True = offending row
# Called with `great_expectations.expectations` and `severity=..., meta=...`, so that only the runner imports it.
ExpectationFactory = Callable[..., Any]


@dataclass(frozen=True)
class Rule:
    """One rule of a check.

    Attributes:
        id: stable name, unique within the check; it is what the gate and the log call the rule.
        severity: critical stops later stages, warning quarantines rows, info only reports.
        expectation: `(gx_expectations, **common) -> Expectation`, called lazily by the runner.
        limit: what was allowed, as a JSON value.
        row_mask: which rows of the table offend; None for rules about the table as a whole.
        columns: the columns the rule reads; they must exist, and a quarantine reason quotes them.
        observed: the number seen, for rules about one number (`scalar`).
        passed: the outcome of `scalar`, None for all other rules.
        derived: the offending rows are handed to the expectation as a boolean column, since it has none of its own.
    """

    id: str
    severity: Severity
    expectation: ExpectationFactory
    limit: Any
    row_mask: RowMask | None = None
    columns: tuple[str, ...] = ()
    observed: Any = None
    passed: bool | None = None
    derived: bool = False


def not_null(column: str, severity: Severity, rule_id: str | None = None) -> Rule:
    """No empty value in a column (None or NaN)."""
    return Rule(
        rule_id or f"{column}_not_null",
        severity,
        lambda gxe, **common: gxe.ExpectColumnValuesToNotBeNull(column=column, **common),
        "no empty value",
        lambda table: table[column].isna(),
        (column,),
    )


def unique(column: str, severity: Severity, rule_id: str | None = None) -> Rule:
    """Every value of a column occurs once; the second and later rows of a value offend."""
    return Rule(
        rule_id or f"{column}_unique",
        severity,
        lambda gxe, **common: gxe.ExpectColumnValuesToBeUnique(column=column, **common),
        "each value once",
        lambda table: table[column].duplicated(keep="first"),
        (column,),
    )


def between(column: str, low: float | None, high: float | None, severity: Severity, rule_id: str | None = None) -> Rule:
    """Every value lies in [low, high]; None leaves a side open. NaN offends too."""

    def offending(table: pd.DataFrame) -> Any:
        values = table[column]
        mask = values.isna()
        if low is not None:
            mask = mask | (values < low)
        if high is not None:
            mask = mask | (values > high)
        return mask

    return Rule(
        rule_id or f"{column}_between",
        severity,
        lambda gxe, **common: gxe.ExpectColumnValuesToBeBetween(column=column, min_value=low, max_value=high, **common),
        [low, high],
        offending,
        (column,),
    )


def in_set(column: str, values: Sequence[Any], severity: Severity, rule_id: str | None = None) -> Rule:
    """Every value is one of `values`."""
    allowed = sorted(values)
    return Rule(
        rule_id or f"{column}_in_set",
        severity,
        lambda gxe, **common: gxe.ExpectColumnValuesToBeInSet(column=column, value_set=allowed, **common),
        allowed,
        lambda table: ~table[column].isin(allowed),
        (column,),
    )


def matches(column: str, pattern: str, severity: Severity, rule_id: str | None = None) -> Rule:
    """Every value matches a regular expression from its first to its last character."""
    anchored = f"^(?:{pattern})$"
    return Rule(
        rule_id or f"{column}_matches",
        severity,
        lambda gxe, **common: gxe.ExpectColumnValuesToMatchRegex(column=column, regex=anchored, **common),
        pattern,
        lambda table: ~table[column].astype("string").str.fullmatch(pattern).fillna(False).astype(bool),
        (column,),
    )


def table_row_count_between(low: int, high: int | None, severity: Severity, rule_id: str = "row_count") -> Rule:
    """The table has between `low` and `high` rows."""
    return Rule(
        rule_id,
        severity,
        lambda gxe, **common: gxe.ExpectTableRowCountToBeBetween(min_value=low, max_value=high, **common),
        [low, high],
    )


def row_rule(rule_id: str, severity: Severity, row_mask: RowMask, limit: Any, columns: Sequence[str] = ()) -> Rule:
    """Any condition on rows, for what no other builder says; `row_mask` is True where a row offends."""
    return Rule(
        rule_id,
        severity,
        lambda gxe, **common: gxe.ExpectColumnValuesToBeInSet(column=rule_id, value_set=[False], **common),
        limit,
        row_mask,
        tuple(columns),
        derived=True,
    )


def no_withdrawn(withdrawals: Sequence[Withdrawal], severity: Severity, rule_id: str = "no_withdrawn") -> Rule:
    """No row may use a withdrawn clip, person, source, section or file."""

    def offending(table: pd.DataFrame) -> Any:
        rows: list[Mapping[str, Any]] = table.to_dict("records")  # type: ignore[assignment]
        mask = pd.Series(False, index=table.index)
        mask.iloc[find_withdrawn(rows, withdrawals)] = True
        return mask

    return row_rule(rule_id, severity, offending, "no withdrawn row")


def scalar(rule_id: str, severity: Severity, observed: Any, passed: bool, limit: Any) -> Rule:
    """A rule about one number of the whole data set (split overlap, NaN count, ...), computed by the stage."""
    return Rule(
        rule_id,
        severity,
        lambda gxe, **common: gxe.ExpectColumnValuesToBeInSet(column=rule_id, value_set=[True], **common),
        limit,
        observed=observed,
        passed=bool(passed),
    )


def at_most(rule_id: str, severity: Severity, observed: float, limit: float) -> Rule:
    """A number must not exceed `limit`; NaN fails."""
    return scalar(rule_id, severity, observed, observed <= limit, limit)


def at_least(rule_id: str, severity: Severity, observed: float, limit: float) -> Rule:
    """A number must reach `limit`; NaN fails."""
    return scalar(rule_id, severity, observed, observed >= limit, limit)
