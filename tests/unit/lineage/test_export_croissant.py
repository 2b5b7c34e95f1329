"""Croissant: mlcroissant takes it, by its command and as a loader, and reads the real rows through it."""

import itertools
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import mlcroissant
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tavr_lineage.exports.croissant import croissant
from tavr_lineage.exports.dossier import Dossier
from tavr_records.errors import InputError
from tavr_records.ids import canonical_json

from .conftest import CLIPS, EXPORTED


@pytest.fixture
def page(dossier: Dossier, checkout: Path, tmp_path: Path) -> Path:
    """The description beside the files it describes."""
    folder = tmp_path / "snapshot"
    shutil.copytree(checkout / ".runs" / EXPORTED / "data", folder / "data")
    shutil.copytree(checkout / ".runs" / EXPORTED / "reports", folder / "reports")
    (folder / "croissant.json").write_bytes(canonical_json(croissant(dossier)))
    return folder / "croissant.json"


def test_mlcroissant_validates_it_without_a_warning(page: Path) -> None:
    result = subprocess.run(
        [Path(sys.executable).with_name("mlcroissant"), "validate", "--jsonld", page],
        capture_output=True, text=True, check=False, env={**os.environ, "HOME": str(page.parent)},
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert "Done." in result.stderr
    assert "warning(s)" not in result.stderr, result.stderr


def test_mlcroissant_reads_the_rows(page: Path) -> None:
    dataset = mlcroissant.Dataset(jsonld=page)
    rows = list(itertools.islice(dataset.records("clips"), 20))
    assert len(rows) == len(CLIPS)
    assert {row["clips/clip_id"].decode() for row in rows} == {clip.clip_id for clip in CLIPS}
    assert {row["clips/frames"] for row in rows} == {clip.frames for clip in CLIPS}
    used = list(dataset.records("consumption"))
    assert {row["consumption/stage"].decode() for row in used} >= {"stage1", "stage2", "stage3"}


def test_columns_about_people_are_flagged(dossier: Dossier) -> None:
    document = croissant(dossier)
    flagged = {
        field["name"] for table in document["recordSet"] for field in table["field"]
        if field.get("description", "").startswith("personal data")
    }  # fmt: skip
    assert {"person_id", "path", "audio_path", "ethnicity", "identity", "source_key"} <= flagged
    assert "frames" not in flagged
    assert {line.split(":")[0] for line in document["rai:personalSensitiveInformation"]} == flagged


def test_other_columns_in_the_cache_are_refused(dossier: Dossier, tmp_path: Path) -> None:
    pq.write_table(pa.table({"clip_id": ["a"]}), tmp_path / "old.parquet")
    changed = replace(dossier, stored={"data/ingest/manifest.parquet": tmp_path / "old.parquet"})
    with pytest.raises(InputError, match="of another version"):
        croissant(changed)


def test_the_same_record_gives_the_same_bytes(dossier: Dossier) -> None:
    assert canonical_json(croissant(dossier)) == canonical_json(croissant(replace(dossier, stored={})))
