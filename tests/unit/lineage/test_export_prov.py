"""W3C PROV: the graph reads back, in both notations, and answers where a file came from."""

import io

import pytest
from prov.model import ProvDocument, ProvRecord
from tavr_lineage.exports.dossier import Dossier
from tavr_lineage.exports.prov import prov_document, render_prov


def of(document: ProvDocument, kind: str) -> list[ProvRecord]:
    return [record for record in document.get_records() if record.get_type().localpart == kind]


def ends(record: ProvRecord) -> list[str]:
    return [str(value).removeprefix("tavr:") for _, value in record.formal_attributes[:2]]


def test_the_graph_says_who_made_what_from_what(dossier: Dossier) -> None:
    document = ProvDocument.deserialize(content=render_prov(prov_document(dossier), ".json").decode(), format="json")
    entities = {str(entity.identifier).removeprefix("tavr:"): entity for entity in of(document, "Entity")}
    model = {str(name): str(value) for name, value in entities["data/stage3/model/model.safetensors"].attributes}
    assert model["tavr:sha256"] == dossier.record["outputs"]["data/stage3/model/model.safetensors"]
    assert ["data/stage3", "data/stage3/model/model.safetensors"] in [ends(item) for item in of(document, "Membership")]
    assert ["data/stage3", "stage/stage3"] in [ends(item) for item in of(document, "Generation")]
    assert ["stage/stage1", "data/latents"] in [ends(item) for item in of(document, "Usage")]
    agents = {str(agent.identifier).removeprefix("tavr:") for agent in of(document, "Agent")}
    assert {"agent/requester", "agent/software"} < agents
    assert len(agents) == 3, "and whoever promoted"
    assert "version/v0.0.1" in entities
    assert str(entities["data/weights/vae/model.safetensors"].get_attribute("tavr:licence")) != "set()"


def test_every_end_of_a_relation_is_in_the_document(dossier: Dossier) -> None:
    document = prov_document(dossier)
    known = {record.identifier for record in document.get_records() if record.identifier is not None}
    for record in document.get_records():
        if record.is_relation():
            for name, value in record.formal_attributes:
                if value is not None and not str(name).endswith("time"):
                    assert value in known, record


@pytest.mark.parametrize("suffix", [".json", ".provn"])
def test_both_notations_are_stable_and_read_back(dossier: Dossier, suffix: str) -> None:
    data = render_prov(prov_document(dossier), suffix)
    assert data == render_prov(prov_document(dossier), suffix)
    read = ProvDocument.deserialize(io.StringIO(data.decode()), format={".json": "json", ".provn": "provn"}[suffix])
    assert len(read.get_records()) == len(prov_document(dossier).get_records())
