"""`tavr verify`: a release held against its evidence, step by step; every step is named, with its outcome and reason.

The same steps judge an evidence file and a checkout (`evidence.py` makes the one mapping out of either). The program
`auditor/verify.py` does the same without a line of this code.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, TypeVar

from tavr_records.errors import InputError, VerificationError

from tavr_lineage.evidence.verification_content import check_attestation, check_closure, check_files, check_withdrawals
from tavr_lineage.evidence.verification_gate import check_approvals, check_gate
from tavr_lineage.evidence.verification_log import (
    Promoted,
    check_checkpoint,
    check_commit,
    check_log,
    check_promotion,
    check_tags,
)

VERIFIED, WITHDRAWN, FAILED = "verified", "inputs withdrawn", "failed"
_LATER = "not checked, for an earlier step failed"
Files = Mapping[str, bytes]
Found = TypeVar("Found")


@dataclass(frozen=True)
class Check:
    """One step: `reason` is what it established, or why it does not hold."""

    step: str
    ok: bool
    reason: str


@dataclass(frozen=True)
class Verification:
    """The answer.

    Attributes:
        state: `verified`; `inputs withdrawn` when all holds and somebody in the model withdrew after its promotion;
            `failed` when a step does not hold.
        release: version, run, commit, record and stages it holds now; empty when no promotion was found.
        withdrawn: consumed clips that were withdrawn since.
    """

    state: str
    checks: tuple[Check, ...]
    release: Mapping[str, Any] = field(default_factory=dict[str, Any])
    withdrawn: tuple[str, ...] = ()

    @classmethod
    def of_container(cls, reason: str) -> "Verification":
        """The answer to a file that cannot be opened as evidence."""
        return cls(FAILED, (Check("container", ok=False, reason=reason),))

    def to_json(self) -> dict[str, Any]:
        """As `--json` prints it."""
        return asdict(self)


@dataclass(frozen=True)
class Demands:
    """What the caller trusts already or adds.

    Attributes:
        trust: fingerprint of the key that the log must begin with; "" trusts the log's word.
        since: a checkpoint that the caller kept.
        checkpoint: whether the evidence must hold a checkpoint; a checkout may be without one.
        more: further steps, which a checkout can do and a file cannot.
    """

    trust: str = ""
    since: bytes | None = None
    checkpoint: bool = True
    more: Mapping[str, Callable[[Promoted], str]] = field(default_factory=dict[str, Callable[[Promoted], str]])


def verify_evidence(files: Files, demands: Demands | None = None) -> Verification:
    """Take every step; one that needs what a failed step should have found counts as failed too."""
    asked, run = demands or Demands(), _Steps()
    log = run.take("log", lambda: check_log(files, asked.trust))
    run.take("checkpoint", lambda: check_checkpoint(files, _there(log), asked.since, required=asked.checkpoint))
    promoted = run.take("promotion", lambda: check_promotion(files, _there(log)))
    run.take("tags", lambda: check_tags(files, _there(promoted)))
    run.take("commit", lambda: check_commit(files, _there(promoted)))
    run.take("attestation", lambda: check_attestation(files, _there(promoted)))
    run.take("files", lambda: check_files(files, _there(promoted)))
    closure = run.take("closure", lambda: check_closure(files, _there(promoted)))
    withdrawn = run.take("withdrawals", lambda: check_withdrawals(files, _there(promoted), _there(closure)))
    approvals = run.take("approvals", lambda: check_approvals(files, _there(promoted)))
    run.take("gate", lambda: check_gate(files, _there(promoted), _there(approvals)))
    for name, step in asked.more.items():
        run.take(name, lambda step=step: (True, step(_there(promoted))))
    good = all(check.ok for check in run.checks)
    state = FAILED if not good else WITHDRAWN if withdrawn else VERIFIED
    release = promoted.describe() if promoted is not None else {}
    return Verification(state, tuple(run.checks), release, tuple(withdrawn or ()))


class _Steps:
    """The steps taken so far."""

    def __init__(self) -> None:
        self.checks: list[Check] = []

    def take(self, name: str, step: Callable[[], tuple[Found, str]]) -> Found | None:
        """Take a step: what it found, None when it does not hold."""
        try:
            found, told = step()
        except _NotCheckedError:
            self.checks.append(Check(name, ok=False, reason=_LATER))
        except (VerificationError, InputError) as error:
            self.checks.append(Check(name, ok=False, reason=str(error)))
        except OSError:  # the machine's failure
            raise
        except Exception as error:  # noqa: BLE001 - whatever a forged file provokes is a failure of the file
            self.checks.append(Check(name, ok=False, reason=f"missing or malformed: {error!r}"))
        else:
            self.checks.append(Check(name, ok=True, reason=told))
            return found
        return None


class _NotCheckedError(Exception):
    """A step needs what an earlier one should have found."""


def _there(value: Found | None) -> Found:
    if value is None:
        raise _NotCheckedError
    return value
