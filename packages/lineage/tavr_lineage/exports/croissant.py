"""Croissant 1.0 (JSON-LD): the run's data set as its manifests, each with its columns; what is about people is flagged.

The files themselves stay where DVC keeps them; `contentUrl` is the path in a checkout after `dvc checkout`.
"""

from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from tavr_records.errors import InputError
from tavr_records.manifest import arrow_schema
from tavr_records.schemas import Clip, ClipPair, Source

from tavr_lineage.closure import CONSUMPTION, Consumption
from tavr_lineage.exports.dossier import STATED, Dossier

CONFORMS_TO = ("http://mlcommons.org/croissant/1.0", "http://mlcommons.org/croissant/RAI/1.0")
_PERSONAL = {
    "person_id": "pseudonym of a person, a keyed digest",
    "identity": "connected component of people who may be one",
    "source_key": "names the source video a person is seen in",
    "record_id": "names the record of a person's video",
    "metadata": "the record's own metadata, which may describe a person",
    "path": "video of a person",
    "audio_path": "voice of a person",
    "caption": "may describe a person",
    "gender": "declared by the source's metadata",
    "age_group": "declared by the source's metadata",
    "ethnicity": "declared by the source's metadata; special category of personal data (GDPR Article 9)",
    "language": "spoken by a person",
}
_TYPES = {pa.string(): "sc:Text", pa.int64(): "sc:Integer", pa.float64(): "sc:Float", pa.bool_(): "sc:Boolean"}
_CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "dct": "http://purl.org/dc/terms/",
    "sc": "https://schema.org/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "conformsTo": "dct:conformsTo",
    **{
        name: f"cr:{name}"
        for name in (
            *("citeAs", "column", "equivalentProperty", "extract", "field", "fileProperty", "fileObject", "fileSet"),
            *("format", "includes", "isLiveDataset", "jsonPath", "key", "md5", "parentField", "path", "recordSet"),
            *("references", "regex", "repeated", "replace", "samplingRate", "separator", "source", "subField"),
            "transform",
        )
    },
}


@dataclass(frozen=True)
class Table:
    """One manifest of the snapshot; `keys` are columns that together name a row."""

    name: str
    path: str
    row_type: type[Any]
    keys: tuple[str, ...]
    description: str


TABLES = (
    Table("sources", "data/sources/manifest.parquet", Source, ("record_id",), "records of the snapshot"),
    Table("clips", "data/ingest/manifest.parquet", Clip, ("clip_id",), "normalised clips that records were cut to"),
    Table("pairs", "data/pairs/manifest.parquet", ClipPair, ("pair_id",), "two clips of one person in two scenes"),
    Table("consumption", CONSUMPTION, Consumption, ("clip_id", "stage"), "what each stage did with each clip"),
)


def croissant(dossier: Dossier) -> dict[str, Any]:
    """The data set's description.

    Raises:
        InputError: a manifest in the DVC cache has other columns than this code knows.
    """
    record = dossier.record
    tables = [table for table in TABLES if _digest(dossier, table)]
    for table in tables:
        _check_columns(dossier, table)
    return {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": list(CONFORMS_TO),
        "name": f"{dossier.artifact}-data-{record['run']['run_id']}",
        "description": (
            f"The data that {dossier.name} was made from: records, clips, pairs and what each stage used. "
            "Videos and sound lie beside the manifests in a checkout."
        ),
        "url": f"https://tavr.invalid/records/{dossier.record_sha256}",
        "citeAs": f"Data set of {dossier.name}, run record sha256:{dossier.record_sha256}",
        "creator": {"@type": "sc:Organization", "name": STATED},
        "datePublished": record["run"]["finished_at"],
        "version": f"{dossier.version.removeprefix('v') or '0.0.0'}+{record['run']['run_id']}",
        "license": sorted(record["licences"]["data"]) or [STATED],
        "rai:personalSensitiveInformation": sorted(
            {f"{column}: {_PERSONAL[column]}" for table in tables for column in _columns(table) if column in _PERSONAL}
        ),
        "rai:dataPreprocessingProtocol": [f"{stage}: see params.yaml" for stage in ("ingest", "pairs", "latents")],
        "rai:dataReleaseMaintenancePlan": "Withdrawals stand in audit/withdrawn.jsonl; later snapshots leave them out.",
        "distribution": [_file(dossier, table) for table in tables],
        "recordSet": [_record_set(table) for table in tables],
    }


def _digest(dossier: Dossier, table: Table) -> str:
    if table.path == dossier.record["consumption"]["path"]:
        return dossier.record["consumption"]["sha256"]
    return dossier.record["outputs"].get(table.path, "")


def _columns(table: Table) -> list[str]:
    return arrow_schema(table.row_type).names


def _check_columns(dossier: Dossier, table: Table) -> None:
    """Hold the columns this code knows against the file, where this machine has it."""
    stored = dossier.stored.get(table.path)
    if stored is not None and stored.is_file() and pq.read_schema(stored).names != _columns(table):
        remedy = "export with the code of the candidate's commit"
        raise InputError(f"{table.path}: columns {pq.read_schema(stored).names} are of another version; {remedy}")


def _file(dossier: Dossier, table: Table) -> dict[str, Any]:
    return {
        "@type": "cr:FileObject",
        "@id": f"{table.name}.parquet",
        "name": f"{table.name}.parquet",
        "contentUrl": table.path,
        "encodingFormat": "application/x-parquet",
        "sha256": _digest(dossier, table),
    }


def _record_set(table: Table) -> dict[str, Any]:
    return {
        "@type": "cr:RecordSet",
        "@id": table.name,
        "name": table.name,
        "description": f"{table.description}; rows are about people",
        "key": [{"@id": f"{table.name}/{key}"} for key in table.keys],
        "field": [_field(table, field) for field in arrow_schema(table.row_type)],
    }


def _field(table: Table, field: pa.Field) -> dict[str, Any]:
    repeated = pa.types.is_list(field.type)
    told: dict[str, Any] = {
        "@type": "cr:Field",
        "@id": f"{table.name}/{field.name}",
        "name": field.name,
        "dataType": _TYPES[field.type.value_type if repeated else field.type],
        "source": {"fileObject": {"@id": f"{table.name}.parquet"}, "extract": {"column": field.name}},
    }
    if repeated:
        told["repeated"] = True
    if field.name in _PERSONAL:
        told["description"] = f"personal data: {_PERSONAL[field.name]}"
    return told
