"""A model by name: the bytes that its record names, or a refusal."""

from pathlib import Path

import pytest
import yaml
from tavr_lineage.promotion import promote
from tavr_lineage.release import open_release
from tavr_records.errors import InputError
from tavr_records.ids import sha256_bytes
from tavr_records.manifest import write_manifest
from tavr_records.schemas import PinnedWeight

from .conftest import Finish, git

RUN = "20260101-00000001"
BENCHMARK = {"candidate": "ours", "methods": {"ours": {"model": "data/stage3/model"}}}


def with_weights(worktree: Path) -> None:
    """A pretrained file with its true digest, and parameters that name the candidate's model."""
    path = worktree / "data/weights/vae/model.safetensors"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"pretrained")
    weight = PinnedWeight("vae/model.safetensors", "vae", "zoo/vae", "", sha256_bytes(b"pretrained"), "Apache-2.0")
    write_manifest(worktree / "data/weights/manifest.parquet", PinnedWeight, [weight], ("path",))
    params = yaml.safe_load((worktree / "params.yaml").read_text())
    (worktree / "params.yaml").write_text(yaml.safe_dump(params | {"benchmark": BENCHMARK}))


def test_a_stage_a_version_a_run_and_a_commit_name_the_same_bytes(finish: Finish, checkout: Path) -> None:
    candidate = finish(RUN, spoil=with_weights)
    promote(checkout, RUN, "dev")
    for name in ("dev", "v0.0.1", RUN, candidate.commit):
        release = open_release(checkout, name)
        assert release.commit == candidate.commit
        assert (release.model / "model.safetensors").read_bytes() == b"stage3 0.3"
        assert (release.folder / "data/weights/vae/model.safetensors").read_bytes() == b"pretrained"
        assert release.params["benchmark"] == BENCHMARK
    assert git(checkout, "status", "--porcelain", "--", "conf", "audit") == ""


def test_a_checkout_is_a_model_too(finish: Finish, checkout: Path) -> None:
    finish(RUN, spoil=with_weights)
    release = open_release(checkout, str(checkout / ".runs" / RUN))
    assert release.commit == ""
    assert release.model == checkout / ".runs" / RUN / "data/stage3/model"


@pytest.mark.parametrize(
    ("content", "message"), [(b"other bytes", "differs from the record"), (None, "not in the DVC cache")]
)
def test_bytes_that_are_not_the_records_are_refused(
    finish: Finish, checkout: Path, content: bytes | None, message: str
) -> None:
    finish(RUN, spoil=with_weights)
    for path in (checkout / ".dvc/cache").rglob("*"):
        if path.is_file() and path.read_bytes() == b"pretrained":
            path.unlink()
            if content is not None:
                path.write_bytes(content)
    with pytest.raises(InputError, match=f"data/weights/vae/model.safetensors: .*{message}"):
        open_release(checkout, RUN)
    assert not (checkout / ".work/releases").exists() or not list((checkout / ".work/releases").iterdir())


@pytest.mark.parametrize(("name", "message"), [("dev", "no version holds this stage"), ("v9.9.9", "v9.9.9")])
def test_unknown_models_are_named(finish: Finish, checkout: Path, name: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        open_release(checkout, name)
