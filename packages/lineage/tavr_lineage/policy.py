"""The gate's policy (`conf/policy.yaml`): what a candidate must show before it may carry a stage's name."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import yaml
from tavr_records.errors import InputError
from tavr_records.params import structure

from tavr_lineage.withdrawal.withdrawal_policy import WithdrawalPolicy, check_withdrawal_policy

POLICY = Path("conf/policy.yaml")
ASSURANCES = ("form", "ssh-signed")
"""How sure it is that an approver said yes, weakest first: a name typed into a form, a signature of their SSH key."""


@dataclass
class BenchmarkPolicy:
    """The candidate must beat the baseline: lower bound of the paired difference of `metric` above the minimum."""

    metric: str
    minimum_pairs: int
    minimum_difference: float
    confidence: float
    resamples: int


@dataclass
class TargetPolicy:
    """What one target stage asks on top: licences it accepts, and approvals with their assurance.

    `reviews` are patterns `<reviewer>/<assurance>` of accepted review decisions. `champion` says what is asked against
    the promoted model of the same profile: `not-clearly-worse` (the upper bound of the difference is not below 0) or
    `better` (the lower bound is above 0). The weakest of `approval_assurance` is the least an approval must have.
    `witnesses` third parties must have signed, and with `timestamp` a time stamp authority must have stamped, a
    checkpoint of the log that pins what the promotion rests on.
    """

    licences: list[str]
    reviews: list[str]
    approvals: int
    approval_assurance: list[str]
    champion: str
    witnesses: int
    timestamp: bool


@dataclass
class Policy:
    """The whole policy. `profile_reviews` are review patterns that a profile's records may have besides."""

    schema_version: int
    artifact: str
    required_stages: list[str]
    required_checks: list[str]
    reviewed_splits: list[str]
    benchmark: BenchmarkPolicy
    targets: dict[str, TargetPolicy]
    profile_reviews: dict[str, list[str]]
    withdrawal: WithdrawalPolicy


def read_policy(path: Path = POLICY) -> Policy:
    """Read the policy.

    Raises:
        InputError: no such file, no YAML, an unknown key, a wrong type or a missing value.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file; restore it from git")
    return parse_policy(path.read_bytes(), str(path))


def artifact_name(root: Path) -> str:
    """The artifact the registry of a checkout is about, without checking the rest of the policy.

    Raises:
        InputError: no such file, no YAML, or no artifact in it.
    """
    path = root / POLICY
    try:
        return str(yaml.safe_load(path.read_bytes())["artifact"])
    except (OSError, yaml.YAMLError, KeyError, TypeError) as error:
        raise InputError(f"{path}: names no artifact ({error}); restore it from git") from error


def parse_policy(data: bytes, where: str) -> Policy:
    """As `read_policy`, from bytes; `where` starts every message."""
    try:
        values: Any = yaml.safe_load(data)
    except yaml.YAMLError as error:
        raise InputError(f"{where}: not YAML ({str(error).splitlines()[0]}); restore it from git") from error
    policy = structure(Policy, cast("dict[str, Any]", values), where)
    for name, target in policy.targets.items():
        _check_target(target, f"{where}: targets.{name}")
    check_withdrawal_policy(policy.withdrawal, where)
    return policy


def _check_target(target: TargetPolicy, where: str) -> None:
    if target.champion not in ("not-clearly-worse", "better"):
        raise InputError(f"{where}.champion is {target.champion!r}; use not-clearly-worse or better")
    for kind in target.approval_assurance:
        if kind not in ASSURANCES:
            raise InputError(f"{where}.approval_assurance holds {kind!r}; use {' or '.join(ASSURANCES)}")
    if target.approvals > 0 and not target.approval_assurance:
        raise InputError(f"{where}.approval_assurance is empty; name the least assurance of its {target.approvals}")
    for field in ("approvals", "witnesses"):
        if getattr(target, field) < 0:
            raise InputError(f"{where}.{field} is {getattr(target, field)}; use 0 or more")
