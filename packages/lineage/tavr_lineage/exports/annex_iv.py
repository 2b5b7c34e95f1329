"""EU AI Act, Annex IV: the technical documentation's points, each filled with what the record knows and nothing else.

Regulation (EU) 2024/1689, Article 11(1) and Annex IV. What no record can know (purpose, risks, oversight, conformity)
is the provider's to state and marked so.
"""

from collections.abc import Mapping
from typing import Any

from tavr_lineage.exports.dossier import Dossier
from tavr_lineage.exports.licences import read_pins
from tavr_lineage.exports.pages import Block, Fields, Grid, Heading, Paragraph

UNSTATED = ""


def annex_iv(dossier: Dossier) -> list[Block]:
    """The whole page."""
    return [
        Heading(1, f"Technical documentation of {dossier.name} (Regulation (EU) 2024/1689, Annex IV)"),
        Paragraph(
            f"A view of the run record sha256:{dossier.record_sha256} in commit {dossier.commit}. "
            "What the record does not know is to be stated by the provider; nothing here was written by hand."
        ),
        *_general(dossier),
        *_development(dossier),
        *_data(dossier),
        *_validation(dossier),
        *_operation(dossier),
    ]


def _general(dossier: Dossier) -> list[Block]:
    record = dossier.record
    parents = [f"{row['run_id']} (record sha256:{row['record_sha256']})" for row in record["run"]["parents"]]
    files = [f"{path} (sha256:{digest})" for path, digest in sorted(dossier.model_files.items())]
    return [
        Heading(2, "1. General description of the AI system"),
        Fields(
            {
                "(a) Intended purpose": UNSTATED,
                "(a) Name of the provider": UNSTATED,
                "(a) Version": dossier.name,
                "(a) Relation to previous versions": "; ".join(parents) or "started from no earlier run",
                "(b) Interaction with hardware or software that is not part of the system": UNSTATED,
                "(c) Versions of relevant software": _software(dossier),
                "(d) Forms in which it is placed on the market": UNSTATED,
                "(d) Files of the model": "; ".join(files),
                "(e) Hardware on which it is intended to run": UNSTATED,
                "(f) Photographs or illustrations of products it is part of": UNSTATED,
                "(g) User interface provided to the deployer": UNSTATED,
                "(h) Instructions for use for the deployer": UNSTATED,
            }
        ),
    ]


def _software(dossier: Dossier) -> str:
    environment = dossier.record["environment"]
    packages = len(read_pins(dossier.requirements))
    python = environment["platform"]["python"]
    return f"Python {python}; {packages} packages pinned by requirements.lock (sha256:{environment['lock_sha256']})"


def _development(dossier: Dossier) -> list[Block]:
    record = dossier.record
    code, platform = record["code"], record["environment"]["platform"]
    seconds = sum(stage["seconds"] for stage in record["stages"])
    gpus = ", ".join(platform["gpus"]) or "no GPU"
    return [
        Heading(2, "2. Elements of the AI system and the process for its development"),
        Heading(3, "(a) Methods and steps performed, and pre-trained systems that were used"),
        Fields(
            {
                "Run": f"{record['run']['run_id']}, {record['run']['started_at']} to {record['run']['finished_at']}",
                "Requested by": record["run"]["requested_by"],
                "Reason": record["run"]["reason"],
                "Code": f"git commit {code['commit']}"
                + ("" if not code["dirty"] else f", with uncommitted changes in {', '.join(code['dirty_paths'])}"),
            }
        ),
        Grid(
            ("step", "state", "seconds", "message"),
            [(s["name"], s["state"], f"{s['seconds']:.1f}", s["reason"]) for s in record["stages"]],
        ),
        Grid(
            ("pre-trained file", "role", "origin", "licence", "sha256"),
            [(w["path"], w["role"], w["origin"], w["licence"], w["sha256"]) for w in record["weights"]],
        ),
        Heading(3, "(b) Design specifications, (c) architecture and computational resources"),
        Fields(
            {
                "Design choices and their rationale": UNSTATED,
                "Parameters": f"params.yaml, profile {_profile(record)}; sha256:{record['params_sha256']}",
                "Seeds": ", ".join(f"{name} {seed}" for name, seed in record["seeds"].items()),
                "Machine": f"{platform['machine']}, {platform['cpu']}, {platform['cores']} cores, {gpus}",
                "Time of computation": f"{seconds:.0f} s in all, by the wall clock of this run",
            }
        ),
    ]


def _profile(record: Mapping[str, Any]) -> str:
    return str(record["params"].get("_compose", {}).get("profile", ""))


def _data(dossier: Dossier) -> list[Block]:
    record = dossier.record
    excluded = [
        (path, str(len(rows)), ", ".join(sorted({r["rule"] for r in rows}))) for path, rows in _excluded(record)
    ]
    reviews = [(r["split"], r["review"], r["reviewer"], r["assurance"], str(r["pairs"])) for r in record["reviews"]]
    return [
        Heading(3, "(d) Data requirements, provenance, selection and cleaning"),
        Grid(
            ("use", "clips", "people", "sources", "hours", "samples", "rights"),
            [
                (stage, *map(str, (use.clips, use.people, use.sources)), f"{use.seconds / 3600:.2f}", str(use.samples),
                 ", ".join(use.rights))
                for stage, use in dossier.uses().items()
            ],
        ),
        Paragraph("Excluded by checks and by ingest, with the rules that excluded:"),
        Grid(("list", "records", "rules"), excluded),
        Paragraph("Labelling: pairs and who accepted them, with what assurance:"),
        Grid(("split", "review", "reviewer", "assurance", "pairs"), reviews),
        Fields(
            {
                "Withdrawn clips in this model": str(len(record["consumption"]["withdrawn_clips"])),
                "How the data was obtained": UNSTATED,
                "Suitability for the intended purpose and examination for biases": UNSTATED,
                "(e) Human oversight measures (Article 14)": UNSTATED,
                "(f) Pre-determined changes": UNSTATED,
            }
        ),
    ]  # fmt: skip


def _excluded(record: Mapping[str, Any]) -> list[tuple[str, list[dict[str, str]]]]:
    return [(path, rows) for path, rows in sorted(record["exclusions"].items()) if rows]


def _validation(dossier: Dossier) -> list[Block]:
    record = dossier.record
    rules = [
        (stage, c["id"], c["severity"], "passed" if c["passed"] else "FAILED", str(c["observed"]), str(c["limit"]))
        for stage, verdict in sorted(record["verdicts"].items())
        for c in verdict["checks"]
    ]
    return [
        Heading(3, "(g) Validation and testing procedures"),
        Grid(("check", "rule", "severity", "result", "observed", "limit"), rules),
        Grid(("method", "metric", "mean", "low", "high", "pairs"), metric_rows(dossier)),
        Fields(
            {
                "People in both training and benchmark": str(len(record["people"]["in_both"])),
                "People the benchmark judged by": str(record["people"]["benchmark"]),
                "Test logs and reports dated and signed by the responsible persons": UNSTATED,
                "(h) Cybersecurity measures": UNSTATED,
                "(h) Integrity of this record": f"signed attestation sha256:{dossier.attestation_sha256}",
            }
        ),
    ]


def metric_rows(dossier: Dossier) -> list[tuple[str, ...]]:
    """The benchmark's table: method, metric, mean, interval, pairs."""
    metrics = (dossier.record["benchmark"] or {}).get("metrics", {})
    return [
        (method, name, *(_number(value.get(key)) for key in ("mean", "low", "high", "pairs")))
        for method, table in sorted(metrics.get("methods", {}).items())
        for name, value in sorted(table.items())
        if isinstance(value, dict)
    ]


def _number(value: Any) -> str:
    return "" if value is None else f"{value:.4g}"


def _operation(dossier: Dossier) -> list[Block]:
    limits = [(name, line) for name, lines in dossier.limits.items() for line in lines]
    events = [
        (str(e["at"]), str(e["event"]), str(e.get("target", "")), str(e.get("actor") or e.get("approver") or ""))
        for e in dossier.events
    ]
    return [
        Heading(2, "3. Monitoring, functioning and control of the AI system"),
        Paragraph("Capabilities and limitations that the project states of its models (docs/limits.md of the commit):"),
        Grid(("about", "statement"), limits),
        Fields(
            {
                "Accuracy for specific persons or groups": UNSTATED,
                "Foreseeable unintended outcomes and sources of risk": UNSTATED,
                "Human oversight measures": UNSTATED,
                "Specifications on input data": UNSTATED,
            }
        ),
        Heading(2, "4. Appropriateness of the performance metrics"),
        Fields({"Why these metrics are appropriate": UNSTATED}),
        Heading(2, "5. Risk management system (Article 9)"),
        Fields({"Description": UNSTATED}),
        Heading(2, "6. Relevant changes made through the lifecycle"),
        Paragraph("Decisions about this version in the audit log:"),
        Grid(("at", "event", "target", "by"), events),
        Heading(2, "7. Harmonised standards applied"),
        Fields({"List, or the solutions adopted instead": UNSTATED}),
        Heading(2, "8. EU declaration of conformity (Article 47)"),
        Fields({"Copy": UNSTATED}),
        Heading(2, "9. System to evaluate the performance after placing on the market (Article 72)"),
        Fields({"Post-market monitoring plan": UNSTATED}),
    ]
