"""The attestation is read by those who do not know us: in-toto's own statement type, and any DSSE verifier."""

import base64
import json
from pathlib import Path

import pytest
from google.protobuf.json_format import ParseDict
from in_toto_attestation.predicates.provenance.v1.provenance_pb2 import Provenance
from in_toto_attestation.v1.resource_descriptor import ResourceDescriptor
from in_toto_attestation.v1.statement import Statement
from in_toto_attestation.v1.statement_pb2 import Statement as StatementProto
from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import VerificationError
from securesystemslib.signer import SSlibKey
from tavr_lineage.trust.attest import ATTESTATION, PAYLOAD_TYPE, PREDICATE_TYPE, STATEMENT_TYPE
from tavr_lineage.trust.keys import signing_key

from .conftest import EXPORTED, Finish


@pytest.fixture
def envelope(finish: Finish, checkout: Path) -> dict:
    finish(EXPORTED)
    return json.loads((checkout / ".runs" / EXPORTED / ATTESTATION).read_bytes())


def test_in_toto_takes_the_statement(envelope: dict) -> None:
    told = json.loads(base64.b64decode(envelope["payload"]))
    proto = ParseDict(told, StatementProto())  # an unknown field is an error
    statement = Statement.copy_from_pb(proto)
    statement.validate()
    assert (statement.pb.type, statement.pb.predicate_type) == (STATEMENT_TYPE, PREDICATE_TYPE)
    for subject in proto.subject:
        ResourceDescriptor.copy_from_pb(subject).validate()
    assert {subject.name for subject in proto.subject} >= {"record.json", "data/stage3/model/model.safetensors"}


def test_slsa_provenance_is_well_formed(envelope: dict) -> None:
    predicate = json.loads(base64.b64decode(envelope["payload"]))["predicate"]
    provenance = ParseDict(predicate, Provenance())  # an unknown field is an error
    assert provenance.build_definition.build_type
    assert provenance.run_details.metadata.invocation_id == EXPORTED
    for descriptor in provenance.build_definition.resolved_dependencies:
        ResourceDescriptor.copy_from_pb(descriptor).validate()


def test_in_toto_refuses_what_is_none(envelope: dict) -> None:
    told = json.loads(base64.b64decode(envelope["payload"]))
    told["subject"][0]["digest"] = {}
    with pytest.raises(ValueError):
        Statement.copy_from_pb(ParseDict(told, StatementProto())).validate()


def test_securesystemslib_verifies_the_envelope(envelope: dict, checkout: Path) -> None:
    key = signing_key(checkout)
    public = SSlibKey.from_crypto(key.private.public_key(), key.fingerprint)
    read = Envelope.from_dict(json.loads(json.dumps(envelope)))
    assert read.payload_type == PAYLOAD_TYPE
    assert read.verify([public], 1)
    read.payload = read.payload[:-1] + b" "
    with pytest.raises(VerificationError):
        read.verify([public], 1)
