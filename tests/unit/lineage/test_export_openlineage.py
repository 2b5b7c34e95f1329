"""OpenLineage: complete runs, stable ids, real assertions, and a server that receives them in order."""

import json
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from uuid import UUID

import pytest
from openlineage.client.serde import Serde
from tavr_lineage.exports.dossier import Dossier
from tavr_lineage.exports.openlineage import openlineage_events, run_uuid, send, to_lines
from tavr_records.errors import InputError

from .conftest import EXPORTED, ORDER


def test_every_stage_starts_and_ends_below_one_parent(dossier: Dossier) -> None:
    events = [json.loads(line) for line in to_lines(openlineage_events(dossier)).splitlines()]
    assert [event["job"]["name"] for event in events] == [
        "retrain", *(name for name in ORDER for _ in range(2)), "retrain",
    ]  # fmt: skip
    assert {event["eventType"] for event in events} == {"START", "COMPLETE"}
    assert [event["eventTime"] for event in events[1:-1]] == sorted(event["eventTime"] for event in events[1:-1])
    for event in events[1:-1]:
        assert UUID(event["run"]["runId"]).version == 5
        assert event["run"]["facets"]["parent"]["run"]["runId"] == run_uuid(EXPORTED, "retrain")
        assert event["job"]["facets"]["sourceCodeLocation"]["version"] == dossier.record["code"]["commit"]
        assert event["schemaURL"].endswith("RunEvent")


def test_datasets_carry_their_version_and_checks_their_assertions(dossier: Dossier) -> None:
    ends = {event.job.name: Serde.to_dict(event) for event in openlineage_events(dossier)}
    assert [item["name"] for item in ends["sources"]["inputs"]] == ["sources.lock"], "code is not a dataset"
    assert [item["name"] for item in ends["sources"]["outputs"]] == []
    assert [item["name"] for item in ends["stage1"]["outputs"]] == ["data/stage1"]
    assert ends["stage1"]["inputs"][0]["facets"]["version"]["datasetVersion"] == f"md5:{'5' * 32}.dir"
    (judged,) = ends["check_ingest"]["inputs"]
    (told,) = judged["inputFacets"]["dataQualityAssertions"]["assertions"]
    assert told == {
        "assertion": "rows", "success": True, "severity": "error", "expected": "1", "actual": "6", "params": {},
    }  # fmt: skip


def test_a_refused_run_fails_with_its_reason_and_what_never_ran_is_not_told(dossier: Dossier) -> None:
    stages = [
        {"name": "sources", "state": "cached", "seconds": 0.0, "reason": ""},
        {"name": "check_sources", "state": "refused", "seconds": 1.5, "reason": "a rule"},
        {"name": "ingest", "state": "not_run", "seconds": 0.0, "reason": ""},
    ]
    events = openlineage_events(replace(dossier, record={**dossier.record, "stages": stages}))
    told = [(event.job.name, event.eventType.value) for event in events if event.eventType is not None]
    assert told[1:] == [
        ("sources", "START"), ("sources", "COMPLETE"), ("check_sources", "START"), ("check_sources", "FAIL"),
        ("retrain", "FAIL"),
    ]  # fmt: skip
    facets = Serde.to_dict(events[-2])["run"]["facets"]
    assert facets["errorMessage"]["message"] == "a rule"
    assert facets["tags"]["tags"] == [{"key": "state", "value": "refused", "source": "DVC"}]


def test_the_same_record_gives_the_same_bytes(dossier: Dossier) -> None:
    assert to_lines(openlineage_events(dossier)) == to_lines(openlineage_events(dossier))


class Receiver(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.received.append((self.path, self.headers.get("authorization"), body))  # type: ignore[attr-defined]
        self.send_response(self.server.answer)  # type: ignore[attr-defined]
        self.end_headers()

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def server():
    with HTTPServer(("127.0.0.1", 0), Receiver) as http:
        http.received, http.answer = [], 201  # type: ignore[attr-defined]
        thread = threading.Thread(target=http.serve_forever)
        thread.start()
        yield http
        http.shutdown()
        thread.join()


def test_a_server_gets_every_event_in_order(
    dossier: Dossier, server: HTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENLINEAGE_API_KEY", "a-key")
    events = openlineage_events(dossier)
    send(events, f"http://127.0.0.1:{server.server_port}")
    paths, keys, bodies = zip(*server.received, strict=True)  # type: ignore[attr-defined]
    assert set(paths) == {"/api/v1/lineage"}
    assert set(keys) == {"Bearer a-key"}
    assert list(bodies) == [json.loads(line) for line in to_lines(events).splitlines()]


def test_a_server_that_refuses_or_is_not_there_is_named(dossier: Dossier, server: HTTPServer) -> None:
    server.answer = 401  # type: ignore[attr-defined]
    address = f"http://127.0.0.1:{server.server_port}"
    with pytest.raises(InputError, match="did not take an event"):
        send(openlineage_events(dossier)[:1], address)
    assert len(server.received) == 1  # type: ignore[attr-defined]
    with pytest.raises(InputError, match="did not take an event"):
        send(openlineage_events(dossier)[:1], "http://127.0.0.1:1")
