"""Pulling: what arrives is what was signed, whoever changed the bucket in between; and somebody knows of it."""

import contextlib
import json
import os
import random
import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from counting_proxy import counting_proxy
from publishable import BIG, PRETRAINED, publishable
from s3_server import S3Server
from tavr_lineage.promotion import promote, rollback
from tavr_lineage.publication.pointers import parse_pointer, stage_path
from tavr_lineage.publication.publish import publish
from tavr_lineage.publication.published_manifest import manifest_bytes, manifest_path, parse_manifest, version_path
from tavr_lineage.publication.pull import Reader, find_reader, pull
from tavr_lineage.publication.receipts import give_back, list_receipts, open_receipt, receipt_path
from tavr_lineage.publication.storage import (
    Storage,
    delete_object,
    list_objects,
    need_storage,
    read_object,
    write_object,
)
from tavr_lineage.trust.keys import SigningKey, signing_key
from tavr_lineage.trust.log import read_log
from tavr_records.errors import InputError, VerificationError
from tavr_records.ids import canonical_json, sha256_bytes

from .conftest import Finish, git

FIRST, SECOND = "20260101-00000001", "20260102-00000002"
MODEL = "data/stage3/model/model.safetensors"


def silent(path: str, done: int, size: int) -> None: ...


def get(path: str) -> bytes:
    stored = read_object(need_storage(), path)
    assert stored is not None
    return stored.data


@pytest.fixture
def published(finish: Finish, checkout: Path, s3: S3Server) -> Path:
    """A checkout whose v0.0.1 is published as dev."""
    finish(FIRST, spoil=publishable(1))
    publish(checkout, promote(checkout, FIRST, "dev"))
    return checkout


@pytest.fixture
def stranger(published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Reader:
    """Somebody outside of any checkout, with a key of his own, who trusts the project's public key."""
    home = tmp_path / "stranger"
    home.mkdir()
    trusted = home / "trusted"
    trusted.write_text(f"# the project's key\ntavr {signing_key(published).public} comment\n")
    git(home, "init", "--quiet", "keyring")
    git(home / "keyring", "-c", "user.name=t", "-c", "user.email=t@t", "commit", "--quiet", "--allow-empty", "-m", "x")
    monkeypatch.setenv("TAVR_SIGNING_KEY", str(signing_key(home / "keyring").path))
    monkeypatch.setenv("TAVR_TRUSTED_KEYS", str(trusted))
    return find_reader(home)


def test_a_stage_and_a_version_arrive_verified_with_a_receipt(
    stranger: Reader, published: Path, tmp_path: Path
) -> None:
    seen: list[tuple[str, int, int]] = []
    done = pull(need_storage(), "tavr@dev", tmp_path / "model", stranger, lambda *told: seen.append(told))
    files = {path.relative_to(done.folder).as_posix() for path in done.folder.rglob("*") if path.is_file()}
    weights = {MODEL, "data/weights/vae/model.safetensors"}
    assert files == weights | {"params.yaml", "record.json", "attestation.json", "model.sig", "receipt.json"}
    assert (done.folder / "data/weights/vae/model.safetensors").read_bytes() == PRETRAINED
    assert seen[-1][1] == seen[-1][2]
    receipt = open_receipt((done.folder / "receipt.json").read_bytes(), "receipt")
    assert (receipt.version, receipt.stage, receipt.counter) == ("v0.0.1", "dev", 1)
    assert receipt.public_key == stranger.key.public not in stranger.trusted
    assert get(receipt_path(receipt)) == (done.folder / "receipt.json").read_bytes()
    by_version = pull(need_storage(), "tavr@v0.0.1", tmp_path / "other", stranger, silent)
    assert by_version.receipt.stage == ""
    assert [path.name for path in tmp_path.iterdir() if path.name.endswith(".partial")] == []


def test_in_a_checkout_the_log_says_who_pulled(published: Path, tmp_path: Path) -> None:
    done = pull(need_storage(), "dev", tmp_path / "model", find_reader(published), silent)
    entry = read_log(published)[-1]
    assert (entry["event"], entry["version"], entry["receipt"]) == ("pulled", "v0.0.1", done.receipt.id)


def test_a_broken_pull_carries_on(
    finish: Finish, published: Path, stranger: Reader, s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TAVR_SIGNING_KEY")
    finish(SECOND, gain=0.4, spoil=publishable(2, big=BIG))
    publish(published, promote(published, SECOND, "dev"))
    out = tmp_path / "model"

    def interrupt(path: str, done: int, size: int) -> None:
        if done > 20 * 2**20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pull(need_storage(), "tavr@dev", out, stranger, interrupt)
    assert not out.exists()
    assert list_receipts(need_storage(), "tavr") == []
    here = sum(path.stat().st_size for path in (tmp_path / ".model.partial").rglob("*") if path.is_file())
    done = pull(need_storage(), "tavr@dev", out, stranger, silent)
    assert here >= 20 * 2**20
    assert done.kept == here
    assert (
        done.fetched
        == sum(entry.size for entry in parse_manifest(get(manifest_path("tavr", "v0.0.2")), "").files) - here
    )
    with counting_proxy(s3.endpoint) as proxy:
        proxy.reset(limit=1)
        monkeypatch.setenv("TAVR_S3_ENDPOINT", proxy.endpoint)
        with pytest.raises(InputError, match="no answer from"):
            pull(need_storage(), "tavr@dev", tmp_path / "never", stranger, silent)


def test_an_update_keeps_what_is_the_same(
    finish: Finish, published: Path, stranger: Reader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "model"
    pull(need_storage(), "tavr@dev", out, stranger, silent)
    monkeypatch.delenv("TAVR_SIGNING_KEY")
    finish(SECOND, gain=0.4, spoil=publishable(2))
    publish(published, promote(published, SECOND, "dev"))
    second = pull(need_storage(), "tavr@dev", out, stranger, silent)
    assert second.receipt.version == "v0.0.2"
    assert second.kept >= len(PRETRAINED)
    old_pointer = get(stage_path("tavr", "dev"))
    publish(published, rollback(published, "dev", "v0.0.1", "faces flicker"))
    assert pull(need_storage(), "tavr@dev", out, stranger, silent).receipt.counter == 3
    write_object(need_storage(), stage_path("tavr", "dev"), old_pointer)
    with pytest.raises(VerificationError, match="went back from assignment 3 to 2"):
        pull(need_storage(), "tavr@dev", out, stranger, silent)
    with pytest.raises(VerificationError, match="this checkout's registry at number 3"):
        pull(need_storage(), "tavr@dev", tmp_path / "in checkout", find_reader(published), silent)


def test_a_foreign_folder_is_not_overwritten(stranger: Reader, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.txt").write_text("x")
    with pytest.raises(InputError, match="holds something that was not pulled"):
        pull(need_storage(), "tavr@dev", tmp_path / "mine", stranger, silent)
    (tmp_path / "link").symlink_to(tmp_path / "mine")
    with pytest.raises(InputError, match="not a folder"):
        pull(need_storage(), "tavr@dev", tmp_path / "link", stranger, silent)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("tavr@prod", "nothing is published for prod"),
        ("tavr@v0.0.9", "tavr@v0.0.9 is not published here"),
        ("tavr@../x", "no model; name it as MODEL@STAGE"),
        ("a/b@dev", "no model; name it as MODEL@STAGE"),
        ("@dev", "no model; name it as MODEL@STAGE"),
    ],
)
def test_names_that_lead_nowhere(stranger: Reader, tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        pull(need_storage(), name, tmp_path / "model", stranger, silent)


Attack = Callable[[Storage, Path], None]


def flip(path: str) -> Attack:
    """One bit of one object, its size and everything else as it was."""

    def attack(storage: Storage, checkout: Path) -> None:
        data = bytearray(get(path))
        data[len(data) // 2] ^= 1
        write_object(storage, path, bytes(data))

    return attack


def swap_weights(storage: Storage, checkout: Path) -> None:
    """Other weights, and a manifest that says so."""
    other = random.Random(9).randbytes(100_000)
    write_object(storage, version_path("tavr", "v0.0.1", MODEL), other)
    edit_manifest(MODEL, other)


def edit_manifest(path: str, data: bytes) -> None:
    where = manifest_path("tavr", "v0.0.1")
    manifest = parse_manifest(get(where), where)
    files = tuple(
        replace(entry, sha256=sha256_bytes(data), size=len(data)) if entry.path == path else entry
        for entry in manifest.files
    )
    write_object(need_storage(), where, manifest_bytes(replace(manifest, files=files)))


def swap_everything(storage: Storage, checkout: Path) -> None:
    """Other weights, and a record, a manifest and a pointer that agree with them."""
    swap_weights(storage, checkout)
    record = json.loads(get(version_path("tavr", "v0.0.1", "record.json")))
    record["outputs"][MODEL] = sha256_bytes(random.Random(9).randbytes(100_000))
    data = canonical_json(record) + b"\n"
    write_object(storage, version_path("tavr", "v0.0.1", "record.json"), data)
    edit_manifest("record.json", data)
    where = manifest_path("tavr", "v0.0.1")
    manifest = replace(parse_manifest(get(where), where), record_sha256=sha256_bytes(data))
    write_object(storage, where, manifest_bytes(manifest))
    where = stage_path("tavr", "dev")
    pointer = replace(parse_pointer(get(where), where), record_sha256=sha256_bytes(data))
    write_object(storage, where, canonical_json(asdict(pointer)))


def drop_a_file(storage: Storage, checkout: Path) -> None:
    where = manifest_path("tavr", "v0.0.1")
    manifest = parse_manifest(get(where), where)
    files = tuple(entry for entry in manifest.files if "weights" not in entry.path)
    write_object(storage, where, manifest_bytes(replace(manifest, files=files)))


def add_a_file(path: str) -> Attack:
    """A file that the record does not name, under a path of the attacker's choice."""

    def attack(storage: Storage, checkout: Path) -> None:
        where = manifest_path("tavr", "v0.0.1")
        manifest = parse_manifest(get(where), where)
        extra = replace(manifest.files[0], path=path, sha256=sha256_bytes(b"evil"), size=4)
        write_object(storage, where, manifest_bytes(replace(manifest, files=(*manifest.files, extra))))
        with contextlib.suppress(InputError):  # some of these names this server refuses
            write_object(storage, version_path("tavr", "v0.0.1", path), b"evil")

    return attack


def other_parameters(storage: Storage, checkout: Path) -> None:
    data = get(version_path("tavr", "v0.0.1", "params.yaml")).replace(b"lr: 0.001", b"lr: 0.002")
    write_object(storage, version_path("tavr", "v0.0.1", "params.yaml"), data)
    edit_manifest("params.yaml", data)


def other_stage(storage: Storage, checkout: Path) -> None:
    """The signed assignment of one stage in the pointer of another."""
    write_object(storage, stage_path("tavr", "prod"), get(stage_path("tavr", "dev")))
    delete_object(storage, stage_path("tavr", "dev"))


def unsigned_tag(storage: Storage, checkout: Path) -> None:
    where = stage_path("tavr", "dev")
    pointer = parse_pointer(get(where), where)
    body = pointer.tag_object.split("-----BEGIN")[0]
    write_object(storage, where, canonical_json(asdict(replace(pointer, tag_object=body))))


def edited_tag(storage: Storage, checkout: Path) -> None:
    """The commit in the tag and in the pointer moved to another; the signature stays."""
    where = stage_path("tavr", "dev")
    pointer = parse_pointer(get(where), where)
    text = pointer.tag_object.replace(pointer.commit, "a" * 40)
    write_object(storage, where, canonical_json(asdict(replace(pointer, tag_object=text, commit="a" * 40))))


def lost_weights(storage: Storage, checkout: Path) -> None:
    delete_object(storage, version_path("tavr", "v0.0.1", MODEL))


def no_json(path: str) -> Attack:
    return lambda storage, checkout: write_object(storage, path, b"{}")


def stranger_signs(storage: Storage, checkout: Path) -> None:
    """The attestation, sealed again with a key nobody trusts."""
    path = version_path("tavr", "v0.0.1", "attestation.json")
    envelope = json.loads(get(path))
    envelope["signatures"][0]["sig"] = envelope["signatures"][0]["sig"][::-1]
    data = canonical_json(envelope) + b"\n"
    write_object(storage, path, data)
    edit_manifest("attestation.json", data)


@pytest.mark.parametrize(
    ("attack", "message"),
    [
        (flip(version_path("tavr", "v0.0.1", MODEL)), r"model\.safetensors: sha256 is"),
        (flip(version_path("tavr", "v0.0.1", "record.json")), r"record\.json: sha256 is"),
        (swap_weights, r"model\.safetensors is .*, the record says"),
        (swap_everything, "record_sha256 is .*, its signed tag says"),
        (drop_a_file, r"data/weights/vae/model\.safetensors is not there, the record says"),
        (add_a_file("data/stage3/model/evil.py"), r"evil\.py is .*, the record says not there"),
        (add_a_file("../../evil.py"), r"'\.\./\.\./evil\.py' is no plain path"),
        (add_a_file("/tmp/evil.py"), r"'/tmp/evil\.py' is no plain path"),
        (add_a_file("data\\evil.py"), "is no plain path"),
        (add_a_file("receipt.json"), "is no plain path"),
        (add_a_file("record.json"), "is there twice"),
        (other_parameters, "params.yaml is not what the record says"),
        (other_stage, "version is tavr v0.0.1 holds prod, its signed tag says tavr v0.0.1 holds dev"),
        (unsigned_tag, "is not signed"),
        (edited_tag, "its signature was made for something else"),
        (lost_weights, "in the manifest, and not there"),
        (no_json(stage_path("tavr", "dev")), "not a pointer"),
        (no_json(manifest_path("tavr", "v0.0.1")), "not a manifest"),
        (stranger_signs, r"attestation\.json is .*, its signed tag says"),
    ],
)
def test_whoever_changes_the_bucket_is_refused(
    attack: Attack, message: str, stranger: Reader, published: Path, tmp_path: Path
) -> None:
    attack(need_storage(), published)
    with pytest.raises(VerificationError, match=message):
        pull(need_storage(), f"tavr@{'prod' if attack is other_stage else 'dev'}", tmp_path / "model", stranger, silent)
    assert not (tmp_path / "model").exists()
    assert list_receipts(need_storage(), "tavr") == []
    assert not (tmp_path.parent / "evil.py").exists()


def test_another_projects_key_is_not_trusted(stranger: Reader, tmp_path: Path) -> None:
    reader = replace(stranger, trusted=[stranger.key.public])
    with pytest.raises(VerificationError, match="none of the trusted keys"):
        pull(need_storage(), "tavr@dev", tmp_path / "model", reader, silent)


def test_outside_a_checkout_both_keys_must_be_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TAVR_TRUSTED_KEYS", raising=False)
    with pytest.raises(InputError, match="no key to sign the receipt with"):
        find_reader(tmp_path)


def test_a_copy_counts_as_deployed_until_it_is_returned(stranger: Reader, published: Path, tmp_path: Path) -> None:
    storage = need_storage()
    pull(storage, "tavr@dev", tmp_path / "a", stranger, silent)
    pull(storage, "tavr@v0.0.1", tmp_path / "b", stranger, silent)
    assert [copy.deployed for copy in list_receipts(storage, "tavr", "v0.0.1")] == [True, True]
    with pytest.raises(InputError, match="pulled with another key"):
        give_back(storage, tmp_path / "a", other_key(published))
    returned = give_back(storage, tmp_path / "a", stranger.key)
    assert not (tmp_path / "a").exists()
    states = {copy.receipt.id: copy for copy in list_receipts(storage, "tavr") if copy.receipt is not None}
    assert states[returned.id].returned_at == returned.at
    assert sorted(copy.deployed for copy in states.values()) == [False, True]
    with pytest.raises(InputError, match="name a folder that `tavr pull` wrote"):
        give_back(storage, tmp_path, stranger.key)


def other_key(published: Path) -> SigningKey:
    """The project's own, which pulled nothing."""
    named = os.environ.pop("TAVR_SIGNING_KEY")
    try:
        return signing_key(published)
    finally:
        os.environ["TAVR_SIGNING_KEY"] = named


def test_a_return_that_another_signed_does_not_count(stranger: Reader, published: Path, tmp_path: Path) -> None:
    storage = need_storage()
    pull(storage, "tavr@dev", tmp_path / "a", stranger, silent)
    shutil.copytree(tmp_path / "a", tmp_path / "copy")
    give_back(storage, tmp_path / "copy", stranger.key)
    (path,) = [e.path for e in list_objects(storage, "tavr/receipts/") if e.path.endswith(".returned.json")]
    forged = json.loads(get(path))
    forged["payload"] = forged["payload"][::-1]
    write_object(storage, path, canonical_json(forged))
    (copy,) = list_receipts(storage, "tavr")
    assert copy.deployed
    assert copy.problem
    (pulled,) = [e.path for e in list_objects(storage, "tavr/receipts/") if e.path.endswith(".pulled.json")]
    write_object(storage, pulled, b"spoiled")
    (copy,) = list_receipts(storage, "tavr")
    assert copy.deployed
    assert "not a receipt" in copy.problem
