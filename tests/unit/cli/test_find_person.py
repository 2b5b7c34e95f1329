"""A face without an id finds its clips, and only proposes them: rendered people, the committed identity network."""

import functools
import hashlib
import http.server
import json
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rows import make_clip
from talking_heads import render_talker
from tavr_cli.find_person import Question, print_proposals, propose_clips
from tavr_ingest.normalise import unit_mean
from tavr_lineage.closure import Consumption
from tavr_lineage.record import SCHEMA_VERSION
from tavr_perception.identity import FaceIdentity
from tavr_records.errors import InputError
from tavr_records.ids import sha256_file
from tavr_records.manifest import write_manifest
from tavr_records.media import write_video
from tavr_records.schemas import Clip, ClipFace
from tavr_sources import fetch as fetching

PEOPLE, FRAMES = 4, 4


@pytest.fixture(scope="module")
def talkers() -> list[np.ndarray]:
    """Frames uint8 [2 x FRAMES, 64, 112, 3] of each person; the first half is what `ingest` saw."""
    return [render_talker(index, 2 * FRAMES).frames for index in range(PEOPLE)]


@pytest.fixture
def checkout(tmp_path: Path, root: Path, zoo: Path, talkers: list[np.ndarray]) -> Path:
    """A checkout after `ingest`: one clip a person with its mean face, and the network that made it."""
    folder = tmp_path / "checkout"
    (folder / "conf").mkdir(parents=True)
    (folder / "conf/policy.yaml").write_bytes((root / "conf/policy.yaml").read_bytes())
    (folder / "data/weights").mkdir(parents=True)
    (folder / "data/weights/identity").symlink_to(zoo / "identity", target_is_directory=True)
    (folder / ".gitignore").write_text("/data/\n")
    identity = FaceIdentity(zoo / "identity")
    clips = [make_clip(f"r{index}") for index in range(PEOPLE)]
    faces = [unit_mean(identity.embed(frames[:FRAMES]).vectors) for frames in talkers]
    rows = [ClipFace(clip.clip_id, clip.person_id, face.tolist()) for clip, face in zip(clips, faces, strict=True)]
    write_manifest(folder / "data/ingest/manifest.parquet", Clip, clips, ("clip_id",))
    write_manifest(folder / "data/ingest/faces.parquet", ClipFace, rows, ("clip_id",))
    for command in (
        ("init", "-q", "-b", "main"), ("add", "-A"), ("-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", "x"),
    ):  # fmt: skip
        subprocess.run(["git", *command], cwd=folder, check=True)
    return folder


def question(**changes: object) -> Question:
    values: dict[str, object] = {
        "image": None, "video": None, "url": None, "profile": None, "least": 0.4, "limit": 20,
    }  # fmt: skip
    return Question(**(values | changes))


def best(found: dict) -> str:
    return found["proposals"][0]["record_id"]


@pytest.fixture
def files(tmp_path: Path, talkers: list[np.ndarray]) -> Path:
    folder = tmp_path / "letter"
    folder.mkdir()
    for index, frames in enumerate(talkers):
        Image.fromarray(frames[-1]).save(folder / f"{index}.png")
    write_video(folder / "2.mp4", talkers[2][FRAMES:], 25)
    Image.fromarray(np.full((64, 112, 3), 128, np.uint8)).save(folder / "nobody.png")
    (folder / "text.png").write_text("no picture")
    return folder


@pytest.fixture
def address(files: Path) -> Iterator[str]:
    """The files over loopback."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(files))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_picture_finds_the_person(checkout: Path, files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = [propose_clips(checkout, question(image=files / f"{index}.png")) for index in range(PEOPLE)]
    assert [best(one) for one in found] == [f"r{index}" for index in range(PEOPLE)]
    first = found[1]["proposals"][0]
    assert first["clip_id"] == make_clip("r1").clip_id
    assert first["similarity"] >= 0.4
    assert found[1]["frames_with_a_face"] == 1
    assert found[1]["looked_at"] == ["."]
    print_proposals(found[1])
    assert "tavr withdraw --person ID" in capsys.readouterr().out
    status = subprocess.run(["git", "status", "--porcelain"], cwd=checkout, capture_output=True, check=True).stdout
    assert status == b"", "it never withdraws by itself"


def test_a_video_finds_the_person(checkout: Path, files: Path) -> None:
    found = propose_clips(checkout, question(video=files / "2.mp4", limit=1))
    assert best(found) == "r2"
    assert len(found["proposals"]) == 1
    assert found["frames_with_a_face"] >= FRAMES - 1


def test_an_address_finds_the_person(checkout: Path, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert best(propose_clips(checkout, question(url=f"{address}/3.png"))) == "r3"
    with pytest.raises(InputError, match=r"lost.png: cannot be fetched \(HTTP Error 404"):
        propose_clips(checkout, question(url=f"{address}/lost.png"))
    monkeypatch.setattr("tavr_cli.find_person.MAX_BYTES", 100)
    with pytest.raises(InputError, match="more than 100 bytes"):
        propose_clips(checkout, question(url=f"{address}/3.png"))
    with pytest.raises(InputError, match="give http"):
        propose_clips(checkout, question(url="file:///etc/hosts"))
    with pytest.raises(fetching.FetchError, match=r"not an http\(s\) address"):
        fetching.download("file:///etc/hosts", checkout / "x", 1)


def test_mistakes_are_named(checkout: Path, files: Path) -> None:
    with pytest.raises(InputError, match="give one of --image, --video and --url"):
        propose_clips(checkout, question())
    with pytest.raises(InputError, match=r"nobody.png: no face found"):
        propose_clips(checkout, question(image=files / "nobody.png"))
    with pytest.raises(InputError, match=r"text.png: not a readable video"):
        propose_clips(checkout, question(image=files / "text.png"))
    with pytest.raises(InputError, match=r"lost.png: cannot be read"):
        propose_clips(checkout, question(image=files / "lost.png"))
    with pytest.raises(InputError, match="no run kept faces"):
        propose_clips(checkout, question(image=files / "0.png", profile="small"))


def test_nobody_alike_is_an_answer(checkout: Path, files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = propose_clips(checkout, question(image=files / "0.png", least=1.01))
    assert found["proposals"] == []
    print_proposals(found)
    assert "no clip is alike enough" in capsys.readouterr().out


def test_faces_of_another_network_are_not_compared(checkout: Path, files: Path) -> None:
    rows = [ClipFace(make_clip("r0").clip_id, "p", [1.0, 0.0])]
    write_manifest(checkout / "data/ingest/faces.parquet", ClipFace, rows, ("clip_id",))
    with pytest.raises(InputError, match="another identity network"):
        propose_clips(checkout, question(image=files / "0.png"))


def test_a_file_of_a_run_is_found_in_the_cache(checkout: Path, files: Path, zoo: Path) -> None:
    """After a run its worktree is gone: network, faces and clips come out of DVC's cache."""
    cache = checkout / ".dvc/cache"
    entries: dict[str, list[dict[str, str]]] = {}
    for stage, names in (("ingest", ("faces.parquet", "manifest.parquet")), ("weights", ())):
        folder = checkout / "data" / stage
        paths = [folder / name for name in names] or [p for p in (zoo / "identity").rglob("*") if p.is_file()]
        for path in paths:
            relative = path.relative_to(folder if names else zoo).as_posix()
            entries.setdefault(stage, []).append({"md5": _store(cache, path.read_bytes()), "relpath": relative})
    outs = {
        stage: {"outs": [{"path": f"data/{stage}", "md5": _store(cache, json.dumps(rows).encode(), ".dir")}]}
        for stage, rows in entries.items()
    }
    (checkout / "dvc.lock").write_text(json.dumps({"schema": "2.0", "stages": outs}))
    write_manifest(checkout / "used.parquet", Consumption, [], ("clip_id",))
    record = {
        "schema_version": SCHEMA_VERSION,
        "run": {"run_id": "20260101-00000001"},
        "params": {"_compose": {"profile": "micro"}},
        "consumption": {"path": "used.parquet", "sha256": sha256_file(checkout / "used.parquet")},
    }
    (checkout / "record.json").write_text(json.dumps(record))
    for command in (
        ("checkout", "-qb", "run/20260101-00000001"), ("add", "dvc.lock", "record.json", "used.parquet"),
        ("-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", "run"), ("checkout", "-q", "main"),
    ):  # fmt: skip
        subprocess.run(["git", *command], cwd=checkout, check=True)
    shutil.rmtree(checkout / "data/ingest")
    (checkout / "data/weights/identity").unlink()
    for profile in (None, "micro"):
        found = propose_clips(checkout, question(image=files / "2.png", profile=profile))
        assert (best(found), found["looked_at"]) == ("r2", ["20260101-00000001"])
    with pytest.raises(InputError, match="no run kept faces"):
        propose_clips(checkout, question(image=files / "2.png", profile="small"))


def _store(cache: Path, data: bytes, suffix: str = "") -> str:
    digest = hashlib.md5(data).hexdigest() + suffix
    path = cache / "files/md5" / digest[:2] / digest[2:]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return digest
