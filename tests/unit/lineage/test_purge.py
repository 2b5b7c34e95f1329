"""After a purge nothing of a person is left but what the certificate names; nobody else loses a picture."""

import fcntl
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from tavr_lineage.promotion import open_case, promote
from tavr_lineage.trust.keys import signing_key
from tavr_lineage.trust.log import read_log
from tavr_lineage.withdrawal.certificate import read_certificates
from tavr_lineage.withdrawal.footprint import text_of
from tavr_lineage.withdrawal.inventory import KINDS, stored
from tavr_lineage.withdrawal.letter import answer
from tavr_lineage.withdrawal.tombstones import Request, withdrawn_inputs
from tavr_records.errors import InputError
from tavr_records.schemas import Clip
from withdrawal_world import BORROWING, fill_outputs, fill_work, forget_in_cache, mark, settle_run

from .conftest import CLIPS, PAIRS, Finish, git

RUN = "20260101-00000001"


@dataclass(frozen=True)
class World:
    root: Path
    commit: str

    def certificate(self) -> dict[str, Any]:
        (statement,) = read_certificates(self.root, [signing_key(self.root)]).values()
        return statement

    def files(self) -> list[Path]:
        """Every file below the checkout, less git's own."""
        return sorted(
            path for path in self.root.rglob("*") if path.is_file() and ".git" not in path.relative_to(self.root).parts
        )

    def naming(self, clips: list[Clip]) -> set[str]:
        """Files that show one of these clips or name it, by an independent look at raw bytes and at tables."""
        records = {clip.record_id for clip in clips}
        wanted = [mark(record) for record in records]
        wanted += [f"/{record}.".encode() for record in records]
        wanted += [value.encode() for clip in clips for value in (clip.clip_id, clip.clip_sha256)]
        names = [clip.clip_id for clip in clips] + [f"/{record}." for record in records]
        found: set[str] = set()
        for path in self.files():
            shown = path.relative_to(self.root).as_posix()
            data = path.read_bytes()
            cells: set[str] = set()
            if data[:4] == b"PAR1":
                cells = set(text_of(path, ".parquet").split("\n"))
            ids = records | {clip.clip_id for clip in clips} | {clip.clip_sha256 for clip in clips}
            pairs = {cell for cell in cells if "|" in cell and set(cell.split("|")) & records}
            quoted = any(f'"{record}"'.encode() in data or f"{record}|".encode() in data for record in records)
            listed = any(f"<li>{record}</li>".encode() in data or f"|{record}".encode() in data for record in records)
            if any(word in data for word in wanted) or cells & ids or pairs or quoted or listed:
                found.add(shown)
            if any(name in f"/{shown}" for name in names):
                found.add(shown)
        return found


@pytest.fixture
def world(finish: Finish, checkout: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """A promoted run with people in every place, in the layout of a real one."""
    monkeypatch.delenv("TAVR_WORK", raising=False)
    ignored = (checkout / ".gitignore").read_text() + "/.work/\n/.runs/\n"
    (checkout / ".gitignore").write_text(ignored)
    git(checkout, "-c", "user.name=t", "-c", "user.email=t@t", "commit", "--quiet", "-am", "ignore")
    candidate = finish(RUN, spoil=lambda tree: fill_outputs(tree, CLIPS, PAIRS))
    promote(checkout, RUN, "dev")
    folder = settle_run(checkout, RUN)
    fill_work(checkout / ".work", CLIPS, PAIRS)
    forget_in_cache(checkout, CLIPS)
    shutil.copytree(folder / "data/benchmark/videos", checkout / ".work/unheard-of")
    shutil.copytree(folder / "tree/data/stage3/model", checkout / ".work/releases" / candidate.commit / "data")
    shutil.copytree(folder / "tree/data/ingest", checkout / "data/ingest")
    shutil.copytree(folder / "tree/data/ingest/clips", checkout / "data/.ingest.0123abcd/clips")
    shutil.rmtree(checkout / ".work/unheard-of")
    return World(checkout, candidate.commit)


def person(number: int) -> list[Clip]:
    return [clip for clip in CLIPS if clip.person_id == f"person{number}"]


def letter(world: World, number: int) -> Any:
    return answer(world.root, Request("person", f"person{number}", "a letter of 2026-02-01"), do_purge=True)


@pytest.mark.parametrize("number", [1, 3])  # one who was trained on, one who is in the benchmark
def test_what_is_left_is_exactly_what_the_certificate_says(world: World, number: int) -> None:
    before = world.naming(person(number))
    done = letter(world, number)
    statement = world.certificate()
    kept = {
        entry["path"] for entry in [*statement["kept"], *statement["block"]] if not entry["path"].startswith("git:")
    }
    removed = {entry["path"] for entry in statement["removed"]}

    def under(paths: set[str], name: str) -> bool:
        return name in paths or any(name.startswith(f"{path}/") for path in paths)

    left = world.naming(person(number))
    assert {name for name in left if not under(kept, name)} == set()
    assert {path for path in kept if not any(under({path}, name) for name in left)} == set()
    assert {name for name in before if not under(kept | removed, name)} == set()
    assert all(entry["reason"] for entry in statement["kept"])
    assert not any((world.root / path).exists() for path in removed)
    assert (statement["withdrawal"]["value"], statement["clips"]) == (
        f"person{number}", sorted(clip.clip_id for clip in person(number)),
    )  # fmt: skip
    assert done.certificate == read_log(world.root)[-1]["certificate_sha256"]


def test_every_kind_of_place_was_met(world: World) -> None:
    letter(world, 1)
    statement = world.certificate()
    met = {entry["kind"] for entry in [*statement["removed"], *statement["kept"]]}
    assert met == set(KINDS) - {"nobody", "published"}
    places = {entry["path"].split("/")[0] for entry in statement["removed"]}
    assert places == {".dvc", ".runs", ".work", "data"}
    memos = {entry["name"].split("/")[1] for entry in statement["removed"] if "/memo/" in entry["name"]}
    assert memos == {"sources", "ingest", "pairs", "latents", "preferences", "benchmark"}


def test_nobody_else_loses_a_picture(world: World) -> None:
    others = [clip for clip in CLIPS if clip.person_id != "person1"]
    letter(world, 1)
    left = world.naming(others)
    for clip in others:
        for path in (f"data/ingest/{clip.path}", f".runs/{RUN}/tree/data/sources/media/{clip.record_id}.mp4"):
            assert path in left
    for stage in ("sources", "ingest", "pairs"):
        entries = [path for path in (world.root / ".work" / stage / "memo").glob("*/*") if path.is_dir()]
        assert len(entries) == len(others)
    assert {path.name for path in (world.root / ".work/stage1").iterdir()} == {"a" * 16}, "it never saw the person"
    assert [path.name for path in (world.root / ".work/reproduce").iterdir()] == ["20250101-0000000f"]


def test_a_borrowed_reference_counts(world: World) -> None:
    """The control `wrong_person` shows the next pair's person in a video that carries this pair's name."""
    letter(world, 3)
    lent = world.root / f".runs/{RUN}/data/benchmark/videos"
    pairs = sorted(pair.pair_id for pair in PAIRS if pair.split == "benchmark")
    mine = pairs.index("r6|r7")
    assert not (lent / BORROWING / f"{pairs[mine - 1]}-0.mp4").exists()
    assert (lent / "ours" / f"{pairs[mine - 1]}-0.mp4").exists()


def test_git_keeps_and_the_certificate_names_what(world: World) -> None:
    letter(world, 3)
    named = {e["path"].split(":", 2)[2] for e in world.certificate()["kept"] if e["path"].startswith("git:")}
    assert named == {
        "reports/benchmark/report.html", "reports/sources/index.html", "reports/sources/quarantine.parquet",
        "reports/lineage/consumption.parquet", "record.json", "audit/withdrawn.jsonl", "audit/log.jsonl",
    }  # fmt: skip
    assert mark("r6") in git_bytes(world.root, f"{world.commit}:reports/benchmark/report.html"), (
        "the still is in history, as the certificate says"
    )


def git_bytes(root: Path, name: str) -> bytes:
    return git(root, "cat-file", "blob", name).encode()


def test_the_purged_inputs_are_told_apart_from_damage(world: World) -> None:
    assert withdrawn_inputs(world.root, world.commit) == []
    done = letter(world, 1)
    found = withdrawn_inputs(world.root, world.commit)
    assert {one.name for one in found if one.what == "clip"} == {clip.clip_id for clip in person(1)}
    files = {one.name for one in found if one.what == "file"}
    assert {f"data/ingest/{clip.path}" for clip in person(1)} < files
    assert {one.certificate for one in found if one.what == "file"} == {done.certificate}
    reasons = open_case(world.root, RUN, "dev").decision.reasons
    missing = {reason.split(": ", 1)[1].split(" ")[0] for reason in reasons if "not in the DVC cache" in reason}
    assert missing
    assert missing <= files


def test_purging_again_finds_nothing_more_to_remove(world: World) -> None:
    letter(world, 1)
    again = letter(world, 1)
    assert again.purged.removed == ()
    assert again.tombstones.added == 0
    assert [entry["event"] for entry in read_log(world.root) if entry["event"] != "key added"] == [
        "promoted", "withdrawn", "purged", "purged",
    ]  # fmt: skip


def test_nothing_is_purged_under_a_run(world: World) -> None:
    with (world.root / ".runs" / RUN / "lock").open("r+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(InputError, match=f"{RUN} in progress"):
            letter(world, 1)
    assert (world.root / "audit/withdrawn.jsonl").read_text(), "the block stands all the same"
    assert letter(world, 1).purged.removed


def test_policy_decides_what_goes(world: World) -> None:
    path = world.root / "conf/policy.yaml"
    policy = yaml.safe_load(path.read_text())
    policy["withdrawal"]["purge"] |= {"models": True, "pages": False}
    policy["withdrawal"]["keep_reasons"]["pages"] = "kept for the review"
    path.write_text(yaml.safe_dump(policy))
    git(world.root, "-c", "user.name=t", "-c", "user.email=t@t", "commit", "--quiet", "-am", "policy")
    letter(world, 1)
    statement = world.certificate()
    assert "models" in {entry["kind"] for entry in statement["removed"]}
    assert {e["reason"] for e in statement["kept"] if e["kind"] == "pages"} == {"kept for the review"}
    assert not list((world.root / f".runs/{RUN}").rglob("model.safetensors"))
    assert json.loads((world.root / f".runs/{RUN}/request.json").read_text()) == {}


def test_the_inventory_lists_every_file_of_the_tree(world: World) -> None:
    """Files of known places only; what the walk does not reach holds nothing of anybody."""
    listed = {item.path for item in stored(world.root)}
    walked = {path for path in world.files() if any(path == one or one in path.parents for one in listed)}
    rest = {path.relative_to(world.root).as_posix() for path in set(world.files()) - walked}
    folders = {name.split("/")[0] if not name.startswith((".work", ".dvc")) else name for name in rest}
    assert {name for name in folders if name.startswith(".work")} == {
        ".work/locks/stage1.lock",
        ".work/prefect/prefect.db",
    }
