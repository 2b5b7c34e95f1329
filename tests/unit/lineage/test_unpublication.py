"""Taking a version out of the bucket again, with an account of what stays."""

import os
from pathlib import Path

import pytest
from publishable import publishable
from s3_server import BUCKET, S3Server
from tavr_lineage.promotion import promote
from tavr_lineage.publication.publish import publish
from tavr_lineage.publication.pull import find_reader, pull
from tavr_lineage.publication.storage import list_objects, need_storage
from tavr_lineage.publication.unpublication import delete_published
from tavr_records.errors import InputError, RefusedError

from .conftest import Finish

FIRST, SECOND = "20260101-00000001", "20260102-00000002"


def test_everything_of_a_version_goes_and_the_rest_stays(
    finish: Finish, checkout: Path, s3: S3Server, tmp_path: Path
) -> None:
    finish(FIRST, spoil=publishable(1))
    first = promote(checkout, FIRST, "dev")
    publish(checkout, first)
    pull(need_storage(), "tavr@v0.0.1", tmp_path / "model", find_reader(checkout), lambda *_: None)
    finish(SECOND, gain=0.4, spoil=publishable(2))
    publish(checkout, promote(checkout, SECOND, "dev"))
    storage = need_storage()
    unfinished = storage.key("tavr/v0.0.1/files/half")
    storage.client.create_multipart_upload(Bucket=BUCKET, Key=unfinished)
    others = {entry.path for entry in list_objects(storage, "") if "v0.0.1" not in entry.path}

    removals = delete_published(storage, "tavr", "v0.0.1")

    gone = {removal.url.split("/tavr/")[1] for removal in removals if removal.removed}
    assert gone == {
        "v0.0.1/files/attestation.json",
        "v0.0.1/files/data/stage3/model/model.safetensors",
        "v0.0.1/files/data/weights/vae/model.safetensors",
        "v0.0.1/files/half",
        "v0.0.1/files/model.sig",
        "v0.0.1/files/params.yaml",
        "v0.0.1/files/record.json",
        "v0.0.1/manifest.json",
    }
    assert {removal.what for removal in removals if not removal.removed} == {"claim", "receipt"}
    assert all(removal.why for removal in removals if not removal.removed)
    left = {entry.path for entry in list_objects(storage, "")}
    assert {path for path in left if "v0.0.1" not in path} == others
    prefix = os.environ["TAVR_S3_URL"].split("/", 3)[3]
    assert not list((s3.folder / BUCKET / prefix / "tavr").glob("v0.0.1/**/*.safetensors")), "on the server's disk too"
    with pytest.raises(RefusedError, match=r"v0\.0\.1 was removed on .*; retrain and promote a new version"):
        publish(checkout, first)
    with pytest.raises(InputError, match="is not published here"):
        pull(storage, "tavr@v0.0.1", tmp_path / "again", find_reader(checkout), lambda *_: None)


def test_pointers_to_a_removed_version_go_with_it(finish: Finish, checkout: Path, s3: S3Server) -> None:
    finish(FIRST, spoil=publishable(1))
    publish(checkout, promote(checkout, FIRST, "dev"))
    removals = delete_published(need_storage(), "tavr", "v0.0.1")
    assert any(removal.removed and removal.url.endswith("stages/dev.json") for removal in removals)
    assert [entry.path for entry in list_objects(need_storage(), "tavr/stages/")] == []


def test_removing_what_was_never_published_reserves_the_name(s3: S3Server) -> None:
    (claim,) = delete_published(need_storage(), "tavr", "v0.0.7")
    assert (claim.what, claim.removed) == ("claim", False)
