"""CycloneDX: strictly valid, and every figure in it is the record's."""

import json
from dataclasses import replace

import pytest
import yaml
from cyclonedx.schema import SchemaVersion
from cyclonedx.spdx import is_supported_id
from cyclonedx.validation.json import JsonStrictValidator
from tavr_lineage.exports.cyclonedx import cyclonedx_bom
from tavr_lineage.exports.dossier import Dossier, read_limits
from tavr_lineage.exports.licences import SPDX, declared_licences, read_pins
from tavr_records.ids import canonical_json


def errors(bom: dict) -> str:
    return str(JsonStrictValidator(SchemaVersion.V1_6).validate_str(json.dumps(bom)) or "")


def test_the_bill_is_strictly_valid(dossier: Dossier, root) -> None:
    limits = read_limits((root / "docs/limits.md").read_bytes())
    assert errors(cyclonedx_bom(dossier)) == ""
    bom = cyclonedx_bom(replace(dossier, limits=limits))
    assert errors(bom) == ""
    card = bom["metadata"]["component"]["modelCard"]["considerations"]
    assert set(card) == {"users", "useCases", "technicalLimitations", "performanceTradeoffs", "ethicalConsiderations"}
    assert all(risk["mitigationStrategy"] for risk in card["ethicalConsiderations"])
    assert errors(bom | {"surprise": 1}), "the validator can say no"


def test_the_whole_environment_is_in_it_with_hashes_and_licences(dossier: Dossier, root) -> None:
    requirements = (root / "requirements.lock").read_bytes()
    licences = json.loads((root / "requirements.licences.json").read_bytes())
    bom = cyclonedx_bom(replace(dossier, requirements=requirements, licences=licences))
    assert errors(bom) == ""
    libraries = [component for component in bom["components"] if component["type"] == "library"]
    assert len(libraries) == sum("==" in line and line[0].isalnum() for line in requirements.decode().splitlines())
    assert sum(len(component["hashes"]) for component in libraries) == requirements.count(b"--hash=sha256:")
    assert sum("licenses" in component for component in libraries) > 0.95 * len(libraries)


def test_the_committed_licences_are_what_the_packages_say(root) -> None:
    """After a change of requirements.lock run `make lock`."""
    pins = read_pins((root / "requirements.lock").read_bytes())
    table = json.loads((root / "requirements.licences.json").read_bytes())
    assert set(table) <= {pin.key for pin in pins}
    assert dict(declared_licences(pins)).items() <= table.items()


def test_the_model_card_tells_metrics_with_intervals_and_data_by_count(dossier: Dossier) -> None:
    bom = cyclonedx_bom(dossier)
    model = bom["metadata"]["component"]
    assert model["version"] == "v0.0.1"
    assert model["modelCard"]["quantitativeAnalysis"]["performanceMetrics"] == [
        {
            "type": "id_target", "value": value, "slice": f"method {method}, 4 pairs",
            "confidenceInterval": {"lowerBound": low, "upperBound": high},
        }
        for method, value, low, high in (("base", "0.2", "0.1", "0.3"), ("ours", "0.5", "0.4", "0.6"))
    ]  # fmt: skip
    assert [file["hashes"][0]["content"] for file in model["components"]] == [
        dossier.record["outputs"]["data/stage3/model/model.safetensors"]
    ]
    data = {component["bom-ref"]: component for component in bom["components"] if component["type"] == "data"}
    told = {item["name"]: item["value"] for item in data["data:stage1"]["data"][0]["contents"]["properties"]}
    rows = [row for row in dossier.consumption.to_pylist() if row["stage"] == "stage1"]
    assert told["tavr:clips"] == str(len(rows))
    assert told["tavr:samples"] == str(sum(row["samples"] for row in rows))
    assert [entry["ref"] for entry in model["modelCard"]["modelParameters"]["datasets"]] == sorted(data)
    text = json.dumps(bom)
    assert not any(row["clip_id"] in text or row["person_id"] in text for row in dossier.consumption.to_pylist())


def test_licences_are_spdx_ids_or_names(dossier: Dossier, root) -> None:
    record = json.loads(json.dumps(dossier.record))
    record["weights"].append(
        {"path": "identity/x.onnx", "role": "identity", "origin": "o", "revision": "", "sha256": "d" * 64,
         "licence": "LicenseRef-insightface-non-commercial"}
    )  # fmt: skip
    bom = cyclonedx_bom(replace(dossier, record=record))
    assert errors(bom) == ""
    told = [c["licenses"][0]["license"] for c in bom["components"] if c["bom-ref"].startswith("weight:")]
    assert told == [{"id": "Apache-2.0"}, {"name": "LicenseRef-insightface-non-commercial"}]
    assert all(is_supported_id(name) for name in SPDX)
    policy = yaml.safe_load((root / "conf/policy.yaml").read_text())
    named = {name for target in policy["targets"].values() for name in target["licences"]}
    assert {name for name in named if not name.startswith("LicenseRef-")} <= SPDX


def test_the_same_record_gives_the_same_bytes(dossier: Dossier) -> None:
    assert canonical_json(cyclonedx_bom(dossier)) == canonical_json(cyclonedx_bom(dossier))


@pytest.mark.parametrize("field", ["benchmark", "weights", "consumption"])
def test_a_refused_run_has_a_bill_too(dossier: Dossier, field: str) -> None:
    record = dict(dossier.record)
    changed = {"benchmark": {"benchmark": None}, "weights": {"weights": []}, "consumption": {}}[field]
    rows = dossier.consumption.slice(0, 0) if field == "consumption" else dossier.consumption
    assert errors(cyclonedx_bom(replace(dossier, record={**record, **changed}, consumption=rows))) == ""
