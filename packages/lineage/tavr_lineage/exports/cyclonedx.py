"""CycloneDX 1.6 ML-BOM: the model with its card, pretrained weights, data and every pinned dependency.

Written by hand: the Python library has no model card. Strict validation against the specification's schema is a test.
"""

import uuid
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any
from urllib.parse import quote

from tavr_lineage.exports.dossier import STATED, TRAINED, Dossier
from tavr_lineage.exports.licences import cyclonedx_licence, read_pins

SERIALS = uuid.UUID("c9a9d0c4-34fb-5e0e-8d0e-3a5c06d1c6f1")
_SENSITIVE = (
    "faces in video",
    "voices in sound",
    "pseudonymous person ids",
    "declared gender, age group and ethnicity of a clip's metadata",
)


def cyclonedx_bom(dossier: Dossier) -> dict[str, Any]:
    """The whole bill of materials."""
    record = dossier.record
    model = _model(dossier)
    weights, data, packages = list(_weights(dossier)), list(_data(dossier)), list(_packages(dossier))
    refs = [component["bom-ref"] for component in (*weights, *data, *packages)]
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(SERIALS, dossier.record_sha256)}",
        "version": 1,
        "metadata": {
            "timestamp": record["run"]["finished_at"],
            "component": model,
            "properties": _properties(
                {
                    "tavr:run": record["run"]["run_id"],
                    "tavr:record_sha256": dossier.record_sha256,
                    "tavr:attestation_sha256": dossier.attestation_sha256,
                    "tavr:code_commit": record["code"]["commit"],
                    "tavr:code_dirty": str(record["code"]["dirty"]).lower(),
                    "tavr:requirements_lock_sha256": str(record["environment"]["lock_sha256"]),
                    "tavr:params_sha256": record["params_sha256"],
                }
            ),
        },
        "components": [*weights, *data, *packages],
        "dependencies": [
            {"ref": model["bom-ref"], "dependsOn": sorted(refs)},
            *({"ref": ref} for ref in sorted(refs)),
        ],
    }


def _model(dossier: Dossier) -> dict[str, Any]:
    commit = dossier.record["code"]["commit"]
    return {
        "type": "machine-learning-model",
        "bom-ref": "model",
        "name": dossier.artifact,
        "version": dossier.version or dossier.record["run"]["run_id"],
        "swhid": [f"swh:1:rev:{commit}"],
        "modelCard": _card(dossier),
        "components": [
            {
                "type": "file",
                "bom-ref": f"file:{path}",
                "name": path,
                "hashes": [{"alg": "SHA-256", "content": digest}],
            }
            for path, digest in sorted(dossier.model_files.items())
        ],
    }


def _card(dossier: Dossier) -> dict[str, Any]:
    limits = dossier.limits
    considerations = {
        "users": list(limits.get("Users", ())),
        "useCases": list(limits.get("Use cases", ())),
        "technicalLimitations": list(limits.get("Technical limitations", ())),
        "performanceTradeoffs": list(limits.get("Performance tradeoffs", ())),
        "ethicalConsiderations": [_risk(line) for line in limits.get("Ethical considerations", ())],
    }
    return {
        "bom-ref": "model-card",
        "modelParameters": {
            "approach": {"type": "self-supervised"},
            "task": "talking-avatar video from a reference video, speech, a background and a prompt",
            "architectureFamily": "diffusion transformer (flow matching)",
            "modelArchitecture": "TAVR on Wan2.1",
            "datasets": [{"ref": component["bom-ref"]} for component in _data(dossier)],
            "inputs": [{"format": form} for form in ("video", "audio", "image", "text")],
            "outputs": [{"format": "video"}],
        },
        "quantitativeAnalysis": {"performanceMetrics": list(_metrics(dossier))},
        "considerations": {name: told for name, told in considerations.items() if told},
        "properties": _properties({f"tavr:seed:{name}": str(seed) for name, seed in dossier.record["seeds"].items()}),
    }


def _risk(line: str) -> dict[str, str]:
    name, _, mitigation = line.partition(": ")
    return {"name": name, "mitigationStrategy": mitigation}


def _metrics(dossier: Dossier) -> Iterator[dict[str, Any]]:
    """Every method's metrics with their intervals, as the benchmark reported them."""
    metrics = (dossier.record["benchmark"] or {}).get("metrics", {})
    tables = {f"method {name}": table for name, table in metrics.get("methods", {}).items()}
    tables |= {
        f"method {name}, paired difference to {metrics.get('baseline')}": table
        for name, table in metrics.get("versus_base", {}).items()
    }
    for subset, table in sorted(tables.items()):
        for name, value in sorted(table.items()):
            if isinstance(value, dict) and value.get("mean") is not None:
                yield _metric(name, subset, value)


def _metric(name: str, subset: str, value: Mapping[str, Any]) -> dict[str, Any]:
    told: dict[str, Any] = {"type": name, "value": str(value["mean"]), "slice": f"{subset}, {value.get('pairs')} pairs"}
    if value.get("low") is not None and value.get("high") is not None:
        told["confidenceInterval"] = {"lowerBound": str(value["low"]), "upperBound": str(value["high"])}
    return told


def _weights(dossier: Dossier) -> Iterator[dict[str, Any]]:
    for row in dossier.record["weights"]:
        yield {
            "type": "machine-learning-model",
            "bom-ref": f"weight:{row['path']}",
            "name": row["path"],
            "version": row["revision"],
            "description": f"pretrained, role {row['role']}",
            "hashes": [{"alg": "SHA-256", "content": row["sha256"]}],
            "licenses": [cyclonedx_licence(row["licence"])],
            "properties": _properties({"tavr:origin": row["origin"], "tavr:role": row["role"]}),
        }


def _data(dossier: Dossier) -> Iterator[dict[str, Any]]:
    """The data of each use: what trained, what conditioned generations, what judged; with counts, never with names."""
    record = dossier.record
    for stage, use in dossier.uses().items():
        counts = asdict(use)
        rights = counts.pop("rights")
        purpose = "training" if stage in TRAINED else "conditioning or judging"
        yield {
            "type": "data",
            "bom-ref": f"data:{stage}",
            "name": f"clips of {stage}",
            "version": record["run"]["run_id"],
            "hashes": [{"alg": "SHA-256", "content": record["consumption"]["sha256"]}],
            "licenses": [cyclonedx_licence(name) for name in rights],
            "data": [
                {
                    "type": "dataset",
                    "name": f"clips of {stage}",
                    "contents": {"properties": _properties({f"tavr:{name}": str(n) for name, n in counts.items()})},
                    "classification": "personal data",
                    "sensitiveData": list(_SENSITIVE),
                    "description": f"{purpose}; rows of {record['consumption']['path']} with stage {stage}",
                    "governance": {"owners": [{"organization": {"name": STATED}}]},
                }
            ],
        }


def _packages(dossier: Dossier) -> Iterator[dict[str, Any]]:
    """Every package of the hash-pinned list, with the sha256 of each of its files and its own words on its licence."""
    for pin in read_pins(dossier.requirements):
        purl = f"pkg:pypi/{quote(pin.name)}@{quote(pin.version, safe='.')}"
        component: dict[str, Any] = {
            "type": "library",
            "bom-ref": purl,
            "name": pin.name,
            "version": pin.version,
            "purl": purl,
            "hashes": [{"alg": "SHA-256", "content": digest} for digest in pin.hashes],
        }
        if licence := dossier.licences.get(pin.key):
            component["licenses"] = [{"license": {"name": licence, "acknowledgement": "declared"}}]
        yield component


def _properties(values: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"name": name, "value": value} for name, value in sorted(values.items())]
