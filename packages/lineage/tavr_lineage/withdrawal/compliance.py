"""How long a withdrawal takes: from the letter on the log to a candidate whose record is free of it."""

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tavr_records.withdrawals import Withdrawal, read_withdrawals

from tavr_lineage.git import repository_root
from tavr_lineage.trust.log import read_log
from tavr_lineage.withdrawal.affected import Candidate, candidates
from tavr_lineage.withdrawal.tombstones import WITHDRAWN

_FINISHED = ("done", "cached")


@dataclass(frozen=True)
class Compliance:
    """One withdrawal on the log and what followed; times in UTC, durations in seconds, empty or None: not yet.

    Attributes:
        purged_at: of the last purge.
        candidate: run id of the first whole candidate after it whose ledgers are free of it.
        promoted_at: of the first promotion of a candidate that is free of it.
    """

    seq: int
    kind: str
    value: str
    withdrawn_at: str
    purged_at: str
    candidate: str
    candidate_at: str
    seconds_to_candidate: int | None
    promoted_at: str
    seconds_to_promotion: int | None


def compliance_times(root: Path) -> list[Compliance]:
    """Every withdrawal on the log, oldest first."""
    root = repository_root(root)
    entries = read_log(root)
    withdrawals = read_withdrawals(root / WITHDRAWN)
    made = list(candidates(root))
    return [_follow(entry, entries, withdrawals, made) for entry in entries if entry["event"] == "withdrawn"]


def _follow(
    entry: Mapping[str, Any],
    entries: Sequence[Mapping[str, Any]],
    withdrawals: Sequence[Withdrawal],
    made: Sequence[Candidate],
) -> Compliance:
    at = str(entry["at"])
    mine = [w for w in withdrawals if (w.reason, w.withdrawn_at) == (entry["reason"], at)]
    free = [one for one in made if not one.rows_of(mine) and _is_whole(one)]
    later = sorted(
        (str(one.record["run"]["finished_at"]), str(one.record["run"]["run_id"]))
        for one in free
        if str(one.record["run"]["finished_at"]) >= at
    )
    candidate_at, candidate = later[0] if later else ("", "")
    commits = {one.commit for one in free}
    after = [e for e in entries if e["seq"] > entry["seq"]]
    promoted = [str(e["at"]) for e in after if e["event"] == "promoted" and e["commit"] in commits]
    purged = [str(e["at"]) for e in after if e["event"] == "purged" and e.get("withdrawn_seq") == entry["seq"]]
    promoted_at = promoted[0] if promoted else ""
    return Compliance(
        seq=int(entry["seq"]),
        kind=str(entry["kind"]),
        value=str(entry["value"]),
        withdrawn_at=at,
        purged_at=purged[-1] if purged else "",
        candidate=candidate,
        candidate_at=candidate_at,
        seconds_to_candidate=_seconds(at, candidate_at),
        promoted_at=promoted_at,
        seconds_to_promotion=_seconds(at, promoted_at),
    )


def _is_whole(one: Candidate) -> bool:
    return all(stage["state"] in _FINISHED for stage in one.record["stages"])


def _seconds(start: str, end: str) -> int | None:
    if not end:
        return None
    first, last = (dt.datetime.fromisoformat(value) for value in (start, end))
    return int((last - first).total_seconds())
