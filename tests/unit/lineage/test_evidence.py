"""Evidence of real promotions: collected from a checkout, verified there, as a file, and by the stand-alone program."""

import ast
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from evidence_world import World, row, table_of
from hypothesis import given, settings
from hypothesis import strategies as st
from stand_alone import FOLDER, PROOF
from tavr_lineage.closure import parse_consumption
from tavr_lineage.evidence.collect import Asked, collect_evidence, verify_release
from tavr_lineage.evidence.container import read_zip, write_zip
from tavr_lineage.evidence.page import PROGRAMS, add_views
from tavr_lineage.evidence.verification import FAILED, VERIFIED, WITHDRAWN
from tavr_lineage.git import read_file
from tavr_lineage.promotion import promote, rollback
from tavr_lineage.subjects import subject_tree
from tavr_lineage.trust.keys import signing_key
from tavr_lineage.trust.log import open_log
from tavr_lineage.withdrawal.certificate import store_certificate
from tavr_records.errors import InputError
from tavr_records.ids import canonical_json

from .conftest import CLIPS, Finish, git

FIRST, SECOND = "20260101-00000001", "20260102-00000002"
BENCHMARK = {"candidate": "ours", "methods": {"ours": {"model": "data/stage3/model"}}}


def with_model(worktree: Path) -> None:
    """Parameters that name the candidate's model, as every real run has."""
    params = yaml.safe_load((worktree / "params.yaml").read_text())
    (worktree / "params.yaml").write_text(yaml.safe_dump(params | {"benchmark": BENCHMARK}))


@pytest.fixture
def promoted(finish: Finish, checkout: Path) -> Path:
    finish(FIRST, spoil=with_model)
    promote(checkout, FIRST, "dev")
    return checkout


def alone(path: Path, *arguments: str, program: str = "judge.py") -> tuple[int, Any]:
    """A stand-alone program, as it lies in the file, in a process that does not see the checkout."""
    for name in PROGRAMS:
        path.with_name(name).write_bytes(read_zip(path)[name])
    command = [sys.executable, "-E", "-s", "-W", "error", str(path.with_name(program)), str(path), "--json", *arguments]
    done = subprocess.run(command, cwd=path.parent, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 4), done.stderr
    return done.returncode, json.loads(done.stdout)


def collect_record(checkout: Path) -> Any:
    return json.loads(collect_evidence(checkout, "v0.0.1")["record.json"])


def bundle(checkout: Path, path: Path, name: str = "v0.0.1") -> Path:
    write_zip(path, add_views(collect_evidence(checkout, name)))
    return path


def test_a_release_is_verified_in_the_checkout_as_a_file_and_alone(promoted: Path, tmp_path: Path) -> None:
    for name in ("v0.0.1", "tavr@v0.0.1", "dev"):
        found = verify_release(promoted, name, Asked(trust=signing_key(promoted).fingerprint))
        assert [check for check in found.checks if not check.ok] == []
        assert found.state == VERIFIED
        assert {"stored", "tree"} <= {check.step for check in found.checks}
    path = bundle(promoted, tmp_path / "evidence.zip")
    found = verify_release(promoted, str(path), Asked())
    assert (found.state, found.release["version"], found.release["holds"]) == (VERIFIED, "v0.0.1", ["dev"])
    code, answer = alone(path, "--weights", str(promoted / ".runs" / FIRST))
    assert (code, answer["state"]) == (0, VERIFIED)
    assert {step["step"] for step in answer["steps"]} == {check.step for check in found.checks} | {"weights"}
    assert alone(path, program="verify.py")[1]["state"] == VERIFIED


def test_who_used_answers_from_the_file_alone(promoted: Path, tmp_path: Path) -> None:
    path = bundle(promoted, tmp_path / "evidence.zip")
    asked = CLIPS[0]
    for value in (asked.clip_id, f"person_id:{asked.person_id}", asked.source_key, f"sha256:{asked.clip_sha256}"):
        code, answer = alone(path, "--who-used", value)
        told = answer["who_used"]
        assert (code, told["used"], told["holds"]) == (0, True, ["dev"])
        assert list(told["stages"]) == ["stage1", "stage2", "stage3"]
        assert told["stages"]["stage1"]["first_step"] == 0
        assert told["stages"]["stage1"]["last_step"] == 2
    judged = alone(path, "--who-used", CLIPS[5].clip_id)[1]["who_used"]
    assert list(judged["stages"]) == ["benchmark"]
    nobody = alone(path, "--who-used", "person99")[1]["who_used"]
    assert (nobody["used"], nobody["stages"]) == (False, {})
    assert "against the root in the signed record" in nobody["proof"]


@pytest.mark.parametrize(
    "spoil",
    [
        str.upper,
        lambda one: one[:-1],
        lambda one: one[1:7],
        lambda one: f"{one},",
        lambda one: f"persn:{one}",
        lambda one: f"file:{one}",
    ],
)
def test_a_misspelt_id_is_no_answer(spoil: Callable[[str], str], promoted: Path, tmp_path: Path) -> None:
    path, clip = bundle(promoted, tmp_path / "evidence.zip"), CLIPS[0].clip_id
    for asked, code in ((spoil(clip), 2), (clip, 0), (f" clip:{clip}\n", 0)):
        command = [sys.executable, "-I", str(FOLDER / "verify.py"), str(path), "--json", "--who-used", asked]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stderr
        told = json.loads(done.stdout)["who_used"]
        assert ("do you mean" in told["error"]) if code else told["used"]


def test_an_id_in_look_alike_letters_is_no_question(promoted: Path, tmp_path: Path) -> None:
    path = bundle(promoted, tmp_path / "evidence.zip")
    command = [sys.executable, "-I", str(FOLDER / "verify.py"), str(path), "--who-used", "p\u0435rson0"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "only look like" in done.stderr


def test_proofs_are_checked_against_the_record(promoted: Path, tmp_path: Path) -> None:
    table = parse_consumption(read_file(promoted, f"run/{FIRST}", "reports/lineage/consumption.parquet"))
    tree, path = subject_tree(table), tmp_path / "proof.json"
    root = collect_record(promoted)["consumption"]["subjects"]["merkle_root"]

    def run(document: Any, root: str, asked: str) -> tuple[int, str]:
        path.write_text(json.dumps(document))
        command = [
            sys.executable,
            "-I",
            str(FOLDER / "check_proof.py"),
            str(path),
            "--root",
            root,
            "--id",
            f"person:{asked}",
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout

    for value, word in ((CLIPS[0].person_id, "in the model, 6 rows"), ("person99", "not in the model")):
        document = tree.prove("person_id", value)
        other = "person98" if value != "person99" else CLIPS[0].person_id
        code, told = run(document, root, value)
        assert (code, word in told.splitlines()[0]) == (0, True)
        assert run({**document, "value": other}, root, other)[0] == 4
        assert run(document, "0" * 64, value)[0] == 4
        assert "not about" in run(document, root, value.upper())[1]
        assert "not about" in run({**document, "kind": "clip_id"}, root, value)[1]


@settings(max_examples=25, deadline=None)
@given(st.sets(st.text("abc", min_size=1, max_size=3), max_size=12), st.text("abc", min_size=1, max_size=3), st.data())
def test_every_proof_is_right_and_no_bent_one_is(people: set[str], asked: str, data: st.DataObject) -> None:
    rows = [row(f"s{number}", "stage1", person) for number, person in enumerate(sorted(people))]
    tree = subject_tree(table_of(rows))
    proof, root = tree.prove("person_id", asked), tree.tree.root
    assert PROOF.check(proof, root, "person_id", asked) == (
        "in the model, 1 rows" if asked in people else "not in the model"
    )
    other = data.draw(st.text("abc", min_size=1, max_size=3).filter(lambda name: (name in people) != (asked in people)))
    with pytest.raises(ValueError, match=r"neighbours|root|place"):
        PROOF.check({**proof, "value": other}, root, "person_id", other)


def test_the_same_release_gives_the_same_bytes(promoted: Path, tmp_path: Path) -> None:
    files = add_views(collect_evidence(promoted, "v0.0.1"))
    write_zip(tmp_path / "a.zip", files)
    write_zip(tmp_path / "b.zip", dict(reversed(files.items())))
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()
    assert read_zip(tmp_path / "a.zip") == files


def test_swapped_weights_in_the_cache_are_found(promoted: Path) -> None:
    for path in (promoted / ".dvc/cache").rglob("*"):
        if path.is_file() and path.read_bytes() == b"stage3 0.3":
            path.write_bytes(b"stage3 0.4")
    found = verify_release(promoted, "v0.0.1", Asked())
    (failed,) = [check for check in found.checks if not check.ok]
    assert failed.step == "stored"
    assert "data/stage3/model/model.safetensors in the DVC cache differs from the record" in failed.reason


def test_a_purged_file_may_be_gone_where_a_signed_certificate_says_so(promoted: Path) -> None:
    files = [path for path in (promoted / ".dvc/cache").rglob("*") if path.is_file()]
    stored = next(path for path in files if path.read_bytes() == b"stage3 0.3")
    stored.unlink()
    assert verify_release(promoted, "v0.0.1", Asked()).state == FAILED
    trace = {"path": stored.relative_to(promoted).as_posix(), "name": "model", "kind": "models", "shared": False}
    statement = {"purged_at": "2026-01-03T00:00:00Z", "removed": [trace], "kept": []}
    store_certificate(promoted, statement, signing_key(promoted))
    found = verify_release(promoted, "v0.0.1", Asked())
    assert found.state == VERIFIED
    assert "1 files purged" in next(check.reason for check in found.checks if check.step == "stored")


def test_a_moved_tag_is_found_in_the_checkout(promoted: Path) -> None:
    git(promoted, "-c", "user.name=x", "-c", "user.email=x@x", "tag", "-f", "-a", "-m", "x", "tavr@v0.0.1", "main")
    found = verify_release(promoted, "v0.0.1", Asked())
    assert found.state == FAILED
    assert any("tag tavr@v0.0.1: points to" in check.reason for check in found.checks)


def test_withdrawn_inputs_are_said_and_no_failure(promoted: Path, tmp_path: Path) -> None:
    line = {"kind": "person_id", "value": CLIPS[0].person_id, "reason": "asked", "withdrawn_at": "2999-01-01T00:00:00Z"}
    (promoted / "audit/withdrawn.jsonl").write_bytes(canonical_json(line) + b"\n")
    found = verify_release(promoted, "v0.0.1", Asked())
    assert (found.state, found.withdrawn) == (WITHDRAWN, tuple(sorted(clip.clip_id for clip in CLIPS[:2])))
    code, answer = alone(bundle(promoted, tmp_path / "evidence.zip"))
    assert (code, answer["state"], answer["withdrawn"]) == (0, WITHDRAWN, list(found.withdrawn))


def test_a_second_version_is_compared_with_its_champion(promoted: Path, finish: Finish, tmp_path: Path) -> None:
    finish(SECOND, gain=0.4, spoil=with_model)
    promote(promoted, SECOND, "dev")
    path = bundle(promoted, tmp_path / "evidence.zip", "v0.0.2")
    assert "champion.json" in read_zip(path)
    assert verify_release(promoted, str(path), Asked()).state == VERIFIED
    assert alone(path)[1]["state"] == VERIFIED
    rollback(promoted, "dev", "v0.0.1", "faces flicker")
    again = bundle(promoted, tmp_path / "again.zip", "dev")
    assert verify_release(promoted, str(again), Asked()).release["holds"] == ["dev"]
    assert verify_release(promoted, "v0.0.2", Asked()).release["holds"] == []


def test_a_kept_checkpoint_proves_that_nothing_changed(promoted: Path, finish: Finish, tmp_path: Path) -> None:
    kept = tmp_path / "kept.json"
    kept.write_bytes(collect_evidence(promoted, "v0.0.1")["checkpoint.json"])
    finish(SECOND, gain=0.4, spoil=with_model)
    promote(promoted, SECOND, "dev")
    assert verify_release(promoted, "v0.0.1", Asked(since=kept)).state == VERIFIED
    other = tmp_path / "other.json"
    other.write_bytes(World().files()["checkpoint.json"])
    found = verify_release(promoted, "v0.0.1", Asked(since=other))
    assert found.state == FAILED
    assert any("rewritten" in check.reason for check in found.checks)


def test_names_that_lead_nowhere(promoted: Path, tmp_path: Path) -> None:
    for name, message in (("v9.9.9", "no such release"), ("prod", "no version holds"), ("x.zip", "cannot be read")):
        with pytest.raises(InputError, match=message):
            verify_release(promoted, name, Asked())
    with pytest.raises(InputError, match="cannot be read"):
        verify_release(promoted, "v0.0.1", Asked(since=tmp_path / "missing"))
    (tmp_path / "bad.zip").write_bytes(b"PK")
    found = verify_release(promoted, str(tmp_path / "bad.zip"), Asked())
    assert (found.state, found.checks[0].step) == (FAILED, "container")


def test_a_clone_without_the_key_can_verify(promoted: Path, tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "--quiet", str(promoted), str(clone))
    git(clone, "branch", "audit", "origin/audit")
    git(clone, "branch", f"run/{FIRST}", f"origin/run/{FIRST}")
    found = verify_release(clone, "v0.0.1", Asked())
    failed = [check.step for check in found.checks if not check.ok]
    assert failed == ["stored"], "only the outputs are not there"
    assert "checkpoint.json" not in collect_evidence(clone, "v0.0.1")
    assert len(open_log(clone).keyring.keys) == len(open_log(promoted).keyring.keys)


def test_the_page_escapes_everything_and_asks_nobody(tmp_path: Path) -> None:
    bad = "<script>alert('x')</script>"
    world = World(spoil_record=lambda record: record["run"].update(reason=bad))
    page = add_views(world.files())["index.html"].decode()
    assert bad not in page
    assert "&lt;script&gt;" in page
    assert "<script" not in page
    for outside in ("http://", "https://", "src=", "url("):
        assert outside not in page
    assert "default-src 'none'" in page


def test_the_programs_need_the_standard_library_and_cryptography_only() -> None:
    allowed = {"verify.py": {"cryptography"}, "judge.py": {"verify", "check_proof"}, "check_proof.py": set()}
    assert set(allowed) == set(PROGRAMS)
    for name, foreign in allowed.items():
        text = (FOLDER / name).read_text()
        tree = ast.parse(text, feature_version=(3, 9))
        names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
        names |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        roots = {one.split(".")[0] for one in names}
        assert roots - set(sys.stdlib_module_names) == foreign
        assert not roots & {"importlib", "runpy", "subprocess", "os"}
        assert len(text.splitlines()) <= 400
