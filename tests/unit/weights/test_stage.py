"""Weights: pinned bytes or a refusal that names file, expected, found and remedy."""

import json
import pickle
import shutil
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tavr_records.errors import InputError
from tavr_records.ids import sha256_bytes
from tavr_records.manifest import read_manifest
from tavr_records.schemas import PinnedWeight
from tavr_weights.config import RoleConfig, WeightsConfig
from tavr_weights.convert import convert_files
from tavr_weights.origins import Fetched, fetch
from tavr_weights.stage import weights

FILES = {"base/config.json": b"{}", "base/deep/model.safetensors": b"weights", "vae/config.json": b"{'a': 1}"}


def role(origin: str, **changes: object) -> RoleConfig:
    values: dict[str, object] = {"revision": None, "files": ["*"], "sha256": None, "licence": "MIT", "convert": None}
    return RoleConfig(origin=origin, **(values | changes))  # type: ignore[arg-type]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout with a zoo of two networks and its pins."""
    zoo = tmp_path / "zoo"
    for name, data in FILES.items():
        (zoo / name).parent.mkdir(parents=True, exist_ok=True)
        (zoo / name).write_bytes(data)
    pins = [
        {"path": name, "role": name.split("/")[0], "sha256": sha256_bytes(data), "licence": "Apache-2.0"}
        for name, data in FILES.items()
    ]
    (zoo / "manifest.json").write_text(json.dumps({"files": pins}))
    return tmp_path


CONFIG = WeightsConfig(pins="zoo/manifest.json", roles={"base": role("zoo/base"), "vae": role("zoo/vae")})


def test_pinned_files_are_copied_and_listed(checkout: Path) -> None:
    weights(CONFIG, checkout)
    rows = read_manifest(checkout / "data/weights/manifest.parquet", PinnedWeight)
    assert [(row.path, row.role, row.origin, row.licence) for row in rows] == [
        ("base/config.json", "base", "zoo/base", "Apache-2.0"),
        ("base/deep/model.safetensors", "base", "zoo/base", "Apache-2.0"),
        ("vae/config.json", "vae", "zoo/vae", "Apache-2.0"),
    ]
    for row in rows:
        placed = checkout / "data/weights" / row.path
        assert placed.read_bytes() == FILES[row.path]
        assert placed.stat().st_nlink == 1, "what git tracks must never be linked: DVC makes its files read-only"


def test_two_runs_give_the_same_manifest(checkout: Path) -> None:
    weights(CONFIG, checkout)
    first = (checkout / "data/weights/manifest.parquet").read_bytes()
    weights(CONFIG, checkout)
    assert (checkout / "data/weights/manifest.parquet").read_bytes() == first


def test_a_wrong_digest_names_file_both_digests_and_remedy(checkout: Path) -> None:
    (checkout / "zoo/base/config.json").write_bytes(b"tampered")
    with pytest.raises(InputError) as caught:
        weights(CONFIG, checkout)
    message = str(caught.value)
    assert "zoo/base/config.json: wrong sha256: expected " + sha256_bytes(b"{}") in message
    assert "found " + sha256_bytes(b"tampered") in message
    assert "git checkout" in message
    assert not (checkout / "data/weights/base").exists(), "a role appears whole or not at all"
    assert not list((checkout / "data/weights").iterdir())


def test_a_missing_file_is_named(checkout: Path) -> None:
    (checkout / "zoo/base/deep/model.safetensors").unlink()
    with pytest.raises(InputError, match=r"zoo/base: no such file: deep/model.safetensors; restore it"):
        weights(CONFIG, checkout)


def test_a_missing_folder_or_pin_file_is_named(checkout: Path) -> None:
    shutil.rmtree(checkout / "zoo/vae")
    with pytest.raises(InputError, match="zoo/vae: no such folder for role vae"):
        weights(CONFIG, checkout)
    (checkout / "zoo/manifest.json").unlink()
    with pytest.raises(InputError, match=r"manifest.json: no such file"):
        weights(CONFIG, checkout)


def test_a_role_without_pins_records_what_came(checkout: Path) -> None:
    weights(WeightsConfig(pins=None, roles={"vae": role("zoo/vae")}), checkout)
    rows = read_manifest(checkout / "data/weights/manifest.parquet", PinnedWeight)
    assert [(row.sha256, row.licence) for row in rows] == [(sha256_bytes(FILES["vae/config.json"]), "MIT")]


def test_a_role_with_its_own_pins_uses_those(checkout: Path) -> None:
    config = WeightsConfig(pins=None, roles={"vae": role("zoo/vae", sha256={"config.json": "0" * 64})})
    with pytest.raises(InputError, match="expected " + "0" * 64):
        weights(config, checkout)


@pytest.mark.parametrize("name", ["../out", "/etc/passwd", "a/../../out", "..\\out"])
def test_a_pin_that_leaves_its_folder_is_refused(checkout: Path, name: str) -> None:
    entry = {"path": name, "role": "vae", "sha256": "0" * 64, "licence": "MIT"}
    (checkout / "zoo/manifest.json").write_text(json.dumps({"files": [entry]}))
    with pytest.raises(InputError, match="leaves its folder"):
        weights(CONFIG, checkout)


def test_an_unknown_scheme_is_refused(checkout: Path) -> None:
    with pytest.raises(InputError, match="use a folder, hf://, s3:// or https://"):
        fetch("vae", role("ftp://host/vae"), None, checkout / "cache", checkout)


def test_the_hub_is_asked_for_the_wanted_files_only(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, object] = {}

    def snapshot_download(repository: str, **options: object) -> str:
        asked.update(options, repository=repository)
        snapshot = checkout / "hub/0123abcd"
        shutil.copytree(checkout / "zoo/base", snapshot / "transformer")
        return str(snapshot)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    config = role("hf://org/repo/transformer", revision="main", files=["*.json"])
    fetched = fetch("base", config, None, checkout / "cache", checkout)
    assert asked["repository"] == "org/repo"
    assert asked["revision"] == "main"
    assert asked["allow_patterns"] == ["transformer/*.json"]
    assert sorted(fetched.files) == ["config.json"]
    assert fetched.revision == "0123abcd"


def test_an_unreachable_hub_is_one_line(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def snapshot_download(*_: object, **__: object) -> str:
        raise OSError("no route\nto the hub")

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    with pytest.raises(InputError, match=r"hf://org/repo: cannot be fetched \(no route\); check network"):
        fetch("base", role("hf://org/repo"), None, checkout / "cache", checkout)


def test_a_zip_is_unpacked_inside_its_folder_only(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = checkout / "cache"
    (cache / "download").mkdir(parents=True)
    with zipfile.ZipFile(cache / "download/pack.zip", "w") as archive:
        archive.writestr("pack/det.onnx", b"net")
        archive.writestr("pack/readme.txt", b"text")
    fetched = fetch("identity", role("https://host/pack.zip", files=["*.onnx"]), None, cache, checkout)
    assert {name: path.read_bytes() for name, path in fetched.files.items()} == {"pack/det.onnx": b"net"}
    shutil.rmtree(cache / "unpacked")
    with zipfile.ZipFile(cache / "download/pack.zip", "a") as archive:
        archive.writestr("../escape.onnx", b"net")
    with pytest.raises(InputError, match="leaves its folder"):
        fetch("identity", role("https://host/pack.zip"), None, cache, checkout)
    assert not (cache / "escape.onnx").exists()
    assert not (cache / "unpacked").exists()


def test_a_torch_pickle_becomes_safetensors(tmp_path: Path) -> None:
    source = tmp_path / "net.pth"
    tensor = torch.arange(6, dtype=torch.float32).reshape(2, 3)
    torch.save({"state_dict": {"layer.weight": tensor, "tied": tensor}, "epoch": 3}, source)
    fetched = Fetched("origin", {"net.pth": source, "config.json": tmp_path / "config.json"})
    converted = convert_files("torch-safetensors", fetched, tmp_path / "converted")
    assert sorted(converted.files) == ["config.json", "net.safetensors"]
    loaded = load_file(converted.files["net.safetensors"])
    assert sorted(loaded) == ["layer.weight", "tied"]
    assert torch.equal(loaded["tied"], tensor)


class _Attack:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return (Path.touch, (self.path,))


def test_a_pickle_that_runs_code_is_refused_and_does_not_run(tmp_path: Path) -> None:
    source, mark = tmp_path / "net.pth", tmp_path / "ran"
    source.write_bytes(pickle.dumps(_Attack(mark)))
    with pytest.raises(InputError, match=r"net.pth: cannot be converted"):
        convert_files("torch-safetensors", Fetched("origin", {"net.pth": source}), tmp_path / "converted")
    assert not mark.exists()
    assert not list((tmp_path / "converted").iterdir())


def test_an_unknown_conversion_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="convert is 'magic'"):
        convert_files("magic", Fetched("origin"), tmp_path)
