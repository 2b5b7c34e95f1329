"""The answer to a letter of withdrawal as text and as JSON: the same in the terminal and on the Prefect page."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from tavr_lineage.withdrawal.affected import Affected, affected_document
from tavr_lineage.withdrawal.compliance import Compliance
from tavr_lineage.withdrawal.letter import Answer

_SHOWN = 10


def answer_document(found: Answer) -> dict[str, Any]:
    """As JSON values."""
    purged = found.purged
    return {
        "tombstones": asdict(found.tombstones),
        "models": affected_document(found.affected),
        "holders": {stage: dict(held) for stage, held in found.holders.items()},
        "related": list(found.related),
        "face_kept": found.face_kept,
        "purge": None
        if purged is None
        else {
            "certificate_sha256": found.certificate,
            "removed": [asdict(trace) for trace in purged.removed],
            "kept": [{**asdict(one.trace), "reason": one.reason} for one in purged.kept],
        },
    }


def render_answer(found: Answer) -> str:
    """As markdown."""
    stones = found.tombstones
    lines = [
        "# Withdrawn",
        f"{len(stones.lines)} tombstones ({stones.added} new) for {len(stones.clips)} clips, log line {stones.seq}",
        f"commit `{stones.commit[:12]}` of the branch that is checked out",
        "## Models",
        *(_model(one) for one in found.affected),
        *([] if found.affected else ["none: no candidate's ledger holds it"]),
        "## Stages",
        *(_held(stage, held) for stage, held in sorted(found.holders.items())),
        *([] if found.holders else ["none is held"]),
    ]
    if found.related:
        shown = ", ".join(f"`{clip[:12]}`" for clip in found.related[:_SHOWN])
        told = f"{len(found.related)} clips, for a human to confirm: {shown}"
        lines += ["## The same face under another label", told]
    if found.face_kept:
        lines += ["## Face", "a keyed template of the face is kept, since policy permits; ingest refuses the face"]
    return "\n\n".join([*lines, *_purge(found)]) + "\n"


def render_times(times: Sequence[Compliance]) -> str:
    """One line a withdrawal: how long until a candidate, and until a promoted model, was free of it."""
    rows = [
        f"{one.withdrawn_at}  {one.kind} {one.value[:12]}: "
        f"purged {one.purged_at or 'not yet'}; "
        f"candidate {_time(one.candidate, one.seconds_to_candidate)}; "
        f"promoted {_time(one.promoted_at, one.seconds_to_promotion)}"
        for one in times
    ]
    return "\n".join(rows) or "nothing has been withdrawn"


def _time(what: str, seconds: int | None) -> str:
    return "not yet" if seconds is None else f"{what} after {seconds / 3600:.2f} h"


def _model(one: Affected) -> str:
    used = ", ".join(f"{stage} {count}" for stage, count in one.used.items())
    where = [f"holds {', '.join(one.stages)}"] if one.stages else []
    where += [f"pulled to {', '.join(one.pulled)}"] if one.pulled else []
    name = ", ".join(one.versions) or one.commit[:12]
    deployed = "; ".join(where) or "not deployed"
    lines = [f"- **{name}** (run {one.run_id}) used {len(one.clips)} clips ({used}); {deployed}"]
    if one.remedy.action == "retrain":
        lines.append(f"  remedy: retrain from `{one.remedy.from_stage}`: `{one.remedy.command}`")
    else:
        lines.append("  remedy: blocked by the gate; nobody needs a successor")
    return "\n".join(lines)


def _held(stage: str, held: Any) -> str:
    refused = "; ".join(held["reasons"])
    return f"- {stage}: {held['version']}, " + (f"the gate would refuse it now: {refused}" if refused else "untouched")


def _purge(found: Answer) -> list[str]:
    if found.purged is None:
        return ["## Purge", "not asked for"]
    removed = Counter(trace.kind for trace in found.purged.removed)
    kept = Counter((one.trace.kind, one.reason) for one in found.purged.kept)
    return [
        "## Purge",
        "\n".join(f"- removed {count} of {kind}" for kind, count in sorted(removed.items())) or "- nothing to remove",
        "\n".join(f"- kept {count} of {kind}: {reason}" for (kind, reason), count in sorted(kept.items())),
        f"certificate `{found.certificate}` (branch `certificates`)",
    ]
