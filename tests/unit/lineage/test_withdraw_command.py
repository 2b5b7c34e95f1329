"""`tavr withdraw` and its Prefect form: the same answer, as text and as JSON; what services keep is looked into."""

import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
import yaml
from pydantic import ValidationError
from tavr_cli.main import app
from tavr_flows.means import face_of, withdrawal_means
from tavr_flows.prefect_traces import PrefectTraces
from tavr_flows.withdraw import WithdrawParameters, told
from tavr_flows.withdraw_page import render_answer
from tavr_lineage.promotion import promote
from tavr_lineage.trust.log import append
from tavr_lineage.withdrawal.footprint import Footprint
from tavr_lineage.withdrawal.letter import Means, answer
from tavr_lineage.withdrawal.purge import Kept, Purged
from tavr_lineage.withdrawal.tombstones import Request
from tavr_records.errors import InputError
from tavr_records.ids import sha256_bytes
from tavr_records.manifest import write_manifest
from tavr_records.memo import folder_digest
from tavr_records.schemas import ClipFace, PinnedWeight
from tavr_records.withdrawn_faces import similarities
from typer.testing import CliRunner

from .conftest import CLIPS, Finish, git

RUN = "20260101-00000001"
WHY = "a letter"


@pytest.fixture
def here(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(checkout)
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    return checkout


def run(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["withdraw", *arguments])


def test_the_answer_as_json_and_as_text(finish: Finish, here: Path) -> None:
    finish(RUN)
    promote(here, RUN, "dev")
    result = run("--person", "person1", "--reason", WHY, "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.output)
    assert [model["run_id"] for model in found["models"]] == [RUN]
    assert found["models"][0]["remedy"]["action"] == "retrain"
    assert found["models"][0]["trained"] is True
    assert len(found["purge"]["certificate_sha256"]) == 64
    assert found["purge"]["removed"]
    text = run("--person", "person1", "--reason", WHY, "--no-purge").output
    assert "tavr retrain --profile tiny" in text
    assert "dev: v0.0.1, the gate would refuse it now" in text
    assert "## Purge\n\nnot asked for" in text
    status = json.loads(run("--status", "--json").output)
    assert [(one["value"], one["candidate"]) for one in status] == [("person1", "")]
    assert "person1: purged 2" in run("--status").output
    assert "promoted not yet" in run("--status").output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "give one of --clip, --person and --source"),
        (("--clip", "a", "--person", "b", "--reason", WHY), "give one of --clip, --person and --source"),
        (("--person", "person1"), "may not be empty"),
        (("--person", "nobody", "--reason", WHY), "look it up with `tavr who-used` or `tavr find-person`"),
    ],
)
def test_mistakes_are_one_line(finish: Finish, here: Path, arguments: tuple[str, ...], message: str) -> None:
    finish(RUN)
    result = run(*arguments)
    assert isinstance(result.exception, InputError)
    assert message in str(result.exception)
    assert (here / "audit/withdrawn.jsonl").read_text() == ""


@pytest.mark.parametrize(
    ("change", "field"),
    [({"kind": "dog"}, "kind"), ({"value": ""}, "value"), ({"reason": ""}, "reason"), ({"start_ms": -1}, "start_ms"),
     ({"end_ms": "soon"}, "end_ms"), ({"purge": "perhaps"}, "purge"), ({"person": "x"}, "person")],
)  # fmt: skip
def test_a_malformed_form_names_its_field(change: dict[str, object], field: str) -> None:
    with pytest.raises(ValidationError) as caught:
        WithdrawParameters.model_validate({"kind": "clip", "value": "x", "reason": "y"} | change)
    assert caught.value.errors()[0]["loc"][0] == field
    for name, described in WithdrawParameters.model_json_schema()["properties"].items():
        assert described["description"], name


class FakePrefect(http.server.BaseHTTPRequestHandler):
    """The four calls of the API that are used, over rows of the class."""

    artifacts: ClassVar[list[dict[str, Any]]] = []
    logs: ClassVar[list[dict[str, Any]]] = []

    def log_message(self, *_: object) -> None:
        pass

    def answer(self, value: Any, code: int = 200) -> None:
        data = b"" if value is None else json.dumps(value).encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self) -> None:
        self.answer(True)

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        rows = self.artifacts if self.path == "/api/artifacts/filter" else self.logs
        assert self.path in ("/api/artifacts/filter", "/api/logs/filter")
        self.answer(rows[asked["offset"] : asked["offset"] + min(asked["limit"], 2)])

    def do_DELETE(self) -> None:
        name = self.path.removeprefix("/api/artifacts/")
        FakePrefect.artifacts = [row for row in self.artifacts if row["id"] != name]
        self.answer(None, 204)


@pytest.fixture
def prefect() -> Iterator[str]:
    clip = CLIPS[2].clip_id
    FakePrefect.artifacts = [
        {"id": f"a{index}", "key": "summary", "data": text, "description": None}
        for index, text in enumerate(["nothing", f"withdrawn clip {clip[:12]} is in a ledger", "nothing", f"x {clip}"])
    ]
    FakePrefect.logs = [
        {"flow_run_id": f"run{index}", "message": text} for index, text in enumerate(["hello", f"clip {clip}", "bye"])
    ]
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), FakePrefect) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/api"
        server.shutdown()
        thread.join()


def test_prefect_is_searched_and_its_artifacts_deleted(prefect: str) -> None:
    footprint = Footprint((), {}, frozenset({CLIPS[2].clip_id}))
    looked = PrefectTraces(prefect).look(footprint, (), False)
    assert looked.removed == ()
    assert [one.trace.path for one in looked.kept] == [
        "prefect:artifact/a1",
        "prefect:artifact/a3",
        "prefect:logs/run1",
    ]
    done = PrefectTraces(prefect).look(footprint, (), True)
    assert [trace.path for trace in done.removed] == ["prefect:artifact/a1", "prefect:artifact/a3"]
    assert [one.trace.path for one in done.kept] == ["prefect:logs/run1"]
    assert [row["id"] for row in FakePrefect.artifacts] == ["a0", "a2"]
    assert PrefectTraces(prefect).look(footprint, (), True).removed == ()


def test_a_server_that_runs_is_a_means(here: Path, prefect: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert withdrawal_means(here).outside == {}
    monkeypatch.setenv("PREFECT_API_URL", prefect)
    assert set(withdrawal_means(here).outside) == {"prefect"}


def test_what_prefect_and_publication_keep_is_in_the_certificate(finish: Finish, here: Path, prefect: str) -> None:
    finish(RUN)
    promote(here, RUN, "dev")
    append(here, "published", "2026-01-02T00:00:00Z", {"version": "tavr@v0.0.1"})
    means = Means({"prefect": PrefectTraces(prefect).look})
    found = answer(here, Request("person", "person1", WHY), do_purge=True, means=means)
    assert found.purged is not None
    assert {"prefect:artifact/a1", "prefect:artifact/a3"} < {trace.path for trace in found.purged.removed}
    kept = {one.trace.path: one.reason for one in found.purged.kept}
    assert kept["prefect:logs/run1"].startswith("logs hold ids at most")
    assert kept["published:v0.0.1"].startswith("Published versions are evidence")
    assert "certificate" in render_answer(found)
    assert "1 of them deployed" in told(found)


def test_a_publisher_that_can_delete_takes_the_seam(finish: Finish, here: Path) -> None:
    path = here / "conf/policy.yaml"
    policy = yaml.safe_load(path.read_text())
    policy["withdrawal"]["purge"]["published"] = True
    path.write_text(yaml.safe_dump(policy))
    git(here, "-c", "user.name=t", "-c", "user.email=t@t", "commit", "--quiet", "-am", "policy")
    finish(RUN)
    promote(here, RUN, "dev")
    asked: list[tuple[str, bool]] = []

    def delete(footprint: Footprint, affected: Any, remove: bool) -> Purged:
        del footprint
        asked.extend((version, remove) for one in affected for version in one.versions)
        return Purged((), ())

    answer(here, Request("person", "person1", WHY), do_purge=True, means=Means({"published": delete}))
    assert asked == [("v0.0.1", True)]
    append(here, "published", "2026-01-02T00:00:00Z", {"version": "tavr@v0.0.1"})
    found = answer(here, Request("person", "person1", WHY), do_purge=True)
    assert found.purged is not None
    (kept,) = [one for one in found.purged.kept if one.trace.kind == "published"]
    assert kept.reason == "policy wants it removed, and TAVR_S3_URL is not set: set it and purge again"
    assert isinstance(kept, Kept)


def test_the_face_comes_from_the_newest_run_that_kept_it(finish: Finish, here: Path) -> None:
    def with_faces(tree: Path) -> None:
        faces = [
            ClipFace(clip.clip_id, clip.person_id, [0.6, 0.8] if clip in CLIPS[2:4] else [1.0, 0.0]) for clip in CLIPS
        ]
        write_manifest(tree / "data/ingest/faces.parquet", ClipFace, faces, ("clip_id",))
        network = tree / "data/weights/identity/config.json"
        network.parent.mkdir(parents=True)
        network.write_bytes(b"network")
        pinned = PinnedWeight("identity/config.json", "identity", "zoo", "", sha256_bytes(b"network"), "MIT")
        write_manifest(tree / "data/weights/manifest.parquet", PinnedWeight, [pinned], ("path",))
        params = yaml.safe_load((tree / "params.yaml").read_text())
        (tree / "params.yaml").write_text(yaml.safe_dump(params | {"ingest": {"person_key": "person.key"}}))

    (here / "person.key").write_bytes(b"the key")
    finish(RUN, spoil=with_faces)
    finish("20260202-00000002")  # newer, but it kept no faces
    mine = [clip.clip_id for clip in CLIPS[2:4]]
    face = face_of(here, mine, 0.6, "2026-02-01T00:00:00Z")
    assert face is not None
    assert face.network == folder_digest(here / f".runs/{RUN}/data/weights/identity")
    import numpy as np

    near, far = np.array([0.6, 0.8], np.float32), np.array([0.8, -0.6], np.float32)
    assert similarities(near, [face], b"the key")[0] == 1.0
    assert abs(similarities(far, [face], b"the key")[0]) < 0.2
    assert face_of(here, ["nobody"], 0.6, "") is None
