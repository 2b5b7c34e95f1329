"""`index.html` and `README.txt` of an evidence file: for the eyes; nothing is concluded from them.

The page needs nothing from outside, runs no script, and escapes every value: names and reasons come from strangers.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from importlib.resources import files as resources
from typing import Any

from tavr_records.ids import sha256_bytes

from tavr_lineage.evidence.tables import DATABASE, read_closure
from tavr_lineage.registry import MOVES
from tavr_lineage.stages import ORDER

PROGRAMS = ("verify.py", "judge.py", "check_proof.py")
_STYLE = (
    "body{font:15px/1.45 system-ui,sans-serif;max-width:66rem;margin:2rem auto;padding:0 1rem;color:#1a1a1a}"
    "h1{margin-bottom:0}h2{margin-top:2rem;border-bottom:1px solid #ccc}table{border-collapse:collapse;margin:.6rem 0}"
    "td,th{padding:.2rem .8rem .2rem 0;text-align:left;vertical-align:top;overflow-wrap:anywhere}th{font-weight:600}"
    "code,pre{font:13px/1.4 ui-monospace,monospace;background:#f4f4f4;overflow-wrap:anywhere}pre{padding:.7rem;"
    "white-space:pre-wrap}.note{background:#fff6d6;padding:.7rem}"
)
_ABOUT = (
    "Evidence of one release of the model: what it was made of, why it may ship, and how to check both without "
    "trusting whoever sent this."
)
_NOTE = (
    "This page is a view. Nothing on it is proof: what is proven is what <code>verify.py</code> says of the files "
    "beside it."
)
_HOW = (
    "Take <code>verify.py</code> from the project rather than from this file, read it (it is one file), and get the "
    "fingerprint after <code>--trust</code> from the operator by another way than this file."
)
_README = """Evidence of the release {tags}.

  pip install cryptography
  python verify.py FILE.zip --trust FINGERPRINT
  python verify.py FILE.zip --who-used ID
  python judge.py FILE.zip --trust FINGERPRINT

verify.py needs Python 3.9 and the package cryptography, and is one file to be read. Take it, and the fingerprint, from
the project rather than from this file. judge.py, beside it and check_proof.py, also judges the promotion again. From
model.sig, index.html, this text, the programs and params.yaml nothing is concluded. What all this proves, and what it
cannot, is in docs/audit.md of the project.
"""
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def add_views(evidence: Mapping[str, bytes]) -> dict[str, bytes]:
    """The evidence with the page, a short text, and the programs that need nothing of ours."""
    auditor = resources("tavr_lineage") / "auditor"
    complete = {**evidence, **{name: (auditor / name).read_bytes() for name in PROGRAMS}}
    complete["README.txt"] = _readme(evidence).encode()
    return {**complete, "index.html": render_page(complete).encode()}


def render_page(evidence: Mapping[str, bytes]) -> str:
    """The page of a release."""
    record, entries = (
        json.loads(evidence["record.json"]),
        [json.loads(line) for line in evidence["log.jsonl"].splitlines()],
    )
    promoted = promotion_of(evidence, entries)
    name = str(promoted["tags"][0])
    sections = [
        f"<h1>{escape(name)}</h1><p>{_ABOUT}</p>",
        f'<p class="note">{_NOTE}</p>',
        _section("Verify it", _how(name, entries)),
        _section("The model", _pairs(_model(record, promoted))),
        _section("Its data", _data(record, evidence)),
        _section("Licences", _licences(record)),
        _section("Checks", _verdicts(record)),
        _section("Benchmark", _benchmark(record, promoted)),
        _section("Promotion", _pairs(_promotion(promoted, entries))),
        _section("History of the log", _history(entries)),
        _section("Keys", _keys(json.loads(evidence["keys.json"]))),
        _section("Files", _table(("name", "bytes", "sha256"), _digests(evidence))),
    ]
    head = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(name)}</title>'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}"><style>{_STYLE}</style></head><body>'
    )
    return head + "\n".join(sections) + "</body></html>\n"


def promotion_of(evidence: Mapping[str, bytes], entries: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """The log's line that made the tags in the evidence."""
    tags = sorted(name.removeprefix("tags/") for name in evidence if name.startswith("tags/"))
    return next(entry for entry in entries if entry["event"] == "promoted" and sorted(entry["tags"]) == tags)


def _how(name: str, entries: Sequence[Mapping[str, Any]]) -> str:
    root = str(entries[0]["key"])
    commands = (
        "pip install cryptography\n"
        f"python verify.py FILE.zip --trust {root}\n"
        f"python judge.py FILE.zip --trust {root}     # the same, and whether the policy allowed the promotion\n"
        "python verify.py FILE.zip --who-used CLIP, PERSON, SOURCE or sha256"
    )
    return f"<p>{_HOW}</p><pre>{escape(commands)}</pre><p>The release is {escape(name)}.</p>"


def _model(record: Mapping[str, Any], promoted: Mapping[str, Any]) -> list[tuple[str, Any]]:
    run, compose = record["run"], record["params"].get("_compose", {})
    return [
        ("version", promoted["version"]),
        ("run", run["run_id"]),
        ("profile", compose.get("profile", "")),
        ("overrides", ", ".join(compose.get("overrides", [])) or "none"),
        ("why it was trained", run["reason"]),
        ("asked for by", run["requested_by"]),
        ("trained", f"{run['started_at']} to {run['finished_at']}"),
        ("code", record["code"]["commit"]),
        ("commit of the release", promoted["commit"]),
        ("seeds", ", ".join(f"{stage} {seed}" for stage, seed in record["seeds"].items())),
        ("first training read", ", ".join(_inputs(record, ORDER[0])) or "not on the record"),
        ("run before it (unchanged stages are its)", ", ".join(one["run_id"] for one in run["parents"]) or "none"),
        ("record", promoted["record_sha256"]),
    ]


def _inputs(record: Mapping[str, Any], stage: str) -> list[str]:
    """The data folders that a stage depended on: whether it began from pretrained weights or from another model's."""
    deps = record["dvc"]["stages"].get(stage, {}).get("deps", ())
    return [str(dep["path"]) for dep in deps if str(dep["path"]).startswith("data/")]


def _data(record: Mapping[str, Any], evidence: Mapping[str, bytes]) -> str:
    used, people = record["consumption"], record["people"]
    counts: list[tuple[str, Any]] = [
        ("clips", used["clips"]),
        ("people trained on", people["trained"]),
        ("people judged on", people["benchmark"]),
        ("people in both", len(people["in_both"])),
        ("withdrawals listed today", len(evidence["withdrawn.jsonl"].splitlines())),
        ("left out, with reasons", sum(len(rows) for rows in record["exclusions"].values())),
        ("root of the closure", used["subjects"]["merkle_root"]),
    ]
    rows = read_closure(evidence[DATABASE]).select(["stage", "first_step", "last_step", "samples"]).to_pylist()
    stages: list[tuple[Any, ...]] = []
    for stage in sorted({row["stage"] for row in rows}):
        mine = [row for row in rows if row["stage"] == stage]
        steps = min(row["first_step"] for row in mine), max(row["last_step"] for row in mine)
        stages.append((stage, len(mine), *steps, sum(row["samples"] for row in mine)))
    return _pairs(counts) + _table(("stage", "clips", "first step", "last step", "samples"), stages)


def _licences(record: Mapping[str, Any]) -> str:
    files = [(row["path"], row["licence"], row["sha256"][:16]) for row in record["weights"]]
    clips = _table(("licence", "clips"), record["licences"]["data"].items())
    return clips + _table(("pretrained file", "licence", "sha256"), files)


def _verdicts(record: Mapping[str, Any]) -> str:
    rows = [
        (
            stage,
            check["id"],
            check["severity"],
            "passed" if check["passed"] else "failed",
            check["observed"],
            check["limit"],
        )
        for stage, verdict in record["verdicts"].items()
        for check in verdict["checks"]
    ]
    return _table(("stage", "check", "severity", "passed", "observed", "limit"), rows)


def _benchmark(record: Mapping[str, Any], promoted: Mapping[str, Any]) -> str:
    bench = record["benchmark"]
    if bench is None:
        return "<p>none</p>"
    rows = [
        (method, len(pairs), *(_mean([scores[name] for scores in pairs.values()]) for name in ("id_ref", "id_target")))
        for method, pairs in bench["scores"].items()
    ]
    gains = [
        (rule, one["metric"], f"{one['mean']:.4f}", f"{one['low']:.4f} to {one['high']:.4f}", one["pairs"])
        for rule, one in promoted["intervals"].items()
    ]
    means = _table(("method", "pairs", "mean id_ref", "mean id_target"), rows)
    return means + _table(("against", "metric", "mean gain", "interval", "pairs"), gains)


def _mean(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    return f"{sum(known) / len(known):.4f}" if known else "-"


def _promotion(promoted: Mapping[str, Any], entries: Sequence[Mapping[str, Any]]) -> list[tuple[str, Any]]:
    moves = {entry["target"]: entry["version"] for entry in entries if entry["event"] in MOVES}
    holds = sorted(stage for stage, version in moves.items() if version == promoted["version"])
    return [
        ("target", promoted["target"]),
        ("at", promoted["at"]),
        ("by", promoted["actor"]),
        ("approvals", ", ".join(promoted["approvals"]) or "none"),
        ("tags", ", ".join(promoted["tags"])),
        ("policy", promoted["policy_sha256"]),
        ("signed by", promoted["key"]),
        ("holds now", ", ".join(holds) or "nothing"),
    ]


def _history(entries: Sequence[Mapping[str, Any]]) -> str:
    counts = Counter(str(entry["event"]) for entry in entries)
    span = f"<p>{len(entries)} entries, {escape(str(entries[0]['at']))} to {escape(str(entries[-1]['at']))}.</p>"
    return span + _table(("event", "entries"), sorted(counts.items()))


def _keys(keys: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        (key["fingerprint"], key["use"], key["added_seq"], key["revoked_from_seq"] or "valid", key["reason"])
        for key in keys
    ]
    return _table(("fingerprint", "use", "from line", "until before line", "reason"), rows)


def _digests(evidence: Mapping[str, bytes]) -> list[tuple[str, int, str]]:
    return [(name, len(data), sha256_bytes(data)) for name, data in sorted(evidence.items())]


def _section(title: str, content: str) -> str:
    return f"<h2>{escape(title)}</h2>{content}"


def _pairs(rows: Iterable[tuple[str, Any]]) -> str:
    lines = (f"<tr><th>{escape(name)}</th><td>{escape(str(value))}</td></tr>" for name, value in rows)
    return f"<table>{''.join(lines)}</table>"


def _table(names: Sequence[str], rows: Iterable[Iterable[Any]]) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in names)
    body = "".join("<tr>" + "".join(f"<td>{escape(str(value))}</td>" for value in row) + "</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>"


def _readme(evidence: Mapping[str, bytes]) -> str:
    tags = " and ".join(sorted(name.removeprefix("tags/") for name in evidence if name.startswith("tags/")))
    return _README.format(tags=tags)
