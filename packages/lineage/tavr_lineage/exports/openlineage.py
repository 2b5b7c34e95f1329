"""OpenLineage: one run of the job `retrain`, and below it one run a stage, from START to COMPLETE, FAIL or ABORT.

The record knows how long each stage took, not when it began: a stage's event times are the run's start plus the seconds
of the stages before it. Code is named by its commit (an SWHID, which any git repository shares), not by an address.
"""

import datetime as dt
import json
import os
import re
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from openlineage.client.event_v2 import InputDataset, Job, OutputDataset, Run, RunEvent, RunState
from openlineage.client.facet_v2 import (
    InputDatasetFacet,
    JobFacet,
    RunFacet,
    data_quality_assertions_dataset,
    dataset_version_dataset,
    error_message_run,
    job_type_job,
    nominal_time_run,
    parent_run,
    source_code_location_job,
    tags_run,
)
from openlineage.client.serde import Serde
from tavr_records.errors import InputError

from tavr_lineage.exports.dossier import Dossier

NAMESPACE = "tavr"
WHOLE = "retrain"
PRODUCER = "https://tavr.invalid/export/openlineage"
RUN_IDS = uuid.UUID("5f4f3c1a-8f1d-5d0b-9f4e-6d0f2b1c7a90")
_CODE = re.compile(r"packages/[^/]+/tavr_[^/]+|requirements\.lock")
_END = {"done": RunState.COMPLETE, "cached": RunState.COMPLETE, "refused": RunState.FAIL, "failed": RunState.FAIL}
_CHECK = "check_"
_RETRIES = {"total": 2, "backoff_factor": 0.3, "status_forcelist": [500, 502, 503, 504], "allowed_methods": ["POST"]}


def openlineage_events(dossier: Dossier) -> list[RunEvent]:
    """Every event of the candidate's run, in the order a server should receive them."""
    record = dossier.record
    start, end = record["run"]["started_at"], record["run"]["finished_at"]
    whole = _run(dossier, WHOLE, {"nominalTime": nominal_time_run.NominalTimeRunFacet(start, end)})
    events = [_event(RunState.START, start, whole, _job(dossier, WHOLE))]
    began = dt.datetime.fromisoformat(start)
    for stage in record["stages"]:
        ended = began + dt.timedelta(seconds=stage["seconds"])
        if stage["state"] != "not_run":
            events += _stage_events(dossier, stage, _time(began), _time(ended))
        began = ended
    finished = all(stage["state"] in ("done", "cached") for stage in record["stages"])
    events.append(_event(RunState.COMPLETE if finished else RunState.FAIL, end, whole, _job(dossier, WHOLE)))
    return events


def to_lines(events: Sequence[RunEvent]) -> bytes:
    """Events as JSON lines, as OpenLineage's file transport writes them."""
    return "".join(f"{Serde.to_json(event)}\n" for event in events).encode()


def send(events: Sequence[RunEvent], url: str) -> None:
    """Send events to an OpenLineage server, such as Marquez, at `url`; a key is read from OPENLINEAGE_API_KEY.

    Raises:
        InputError: the server cannot be reached or refuses an event.
    """
    from openlineage.client.transport.http import ApiKeyTokenProvider, HttpConfig, HttpTransport, TokenProvider

    key = os.environ.get("OPENLINEAGE_API_KEY")
    auth = ApiKeyTokenProvider({"apiKey": key}) if key else TokenProvider({})
    transport = HttpTransport(HttpConfig(url=url, auth=auth, retry=_RETRIES))
    try:
        for event in events:
            transport.emit(event)
    except OSError as error:  # what requests raises is one
        told = f"the OpenLineage server did not take an event ({error})"
        raise InputError(f"{url}: {told}; check address and OPENLINEAGE_API_KEY") from error
    finally:
        transport.close()


def run_uuid(run_id: str, stage: str) -> str:
    """The same UUID for the same run and stage, everywhere."""
    return str(uuid.uuid5(RUN_IDS, f"{run_id}/{stage}"))


def _stage_events(dossier: Dossier, stage: Mapping[str, Any], began: str, ended: str) -> list[RunEvent]:
    run_id, name = dossier.record["run"]["run_id"], stage["name"]
    parent = parent_run.Run(runId=run_uuid(run_id, WHOLE)), parent_run.Job(NAMESPACE, WHOLE)
    facets: dict[str, RunFacet] = {
        "nominalTime": nominal_time_run.NominalTimeRunFacet(began, ended),
        "parent": parent_run.ParentRunFacet(*parent),
        "tags": tags_run.TagsRunFacet([tags_run.TagsRunFacetFields("state", stage["state"], "DVC")]),
    }
    if stage["reason"]:
        facets["errorMessage"] = error_message_run.ErrorMessageRunFacet(stage["reason"], "PYTHON")
    run, job = _run(dossier, name, facets), _job(dossier, name)
    inputs, outputs = _inputs(dossier, name), _outputs(dossier, name)
    return [
        _event(RunState.START, began, run, job, inputs=inputs),
        _event(_END[stage["state"]], ended, run, job, inputs=inputs, outputs=outputs),
    ]


def _event(state: RunState, at: str, run: Run, job: Job, **datasets: Any) -> RunEvent:
    return RunEvent(eventType=state, eventTime=at, run=run, job=job, producer=PRODUCER, **datasets)


def _run(dossier: Dossier, stage: str, facets: dict[str, RunFacet]) -> Run:
    return Run(run_uuid(dossier.record["run"]["run_id"], stage), facets)


def _job(dossier: Dossier, name: str) -> Job:
    code = dossier.record["code"]
    facets: dict[str, JobFacet] = {
        "jobType": job_type_job.JobTypeJobFacet("BATCH", "DVC", "STAGE" if name != WHOLE else "PIPELINE"),
        "sourceCodeLocation": source_code_location_job.SourceCodeLocationJobFacet(
            "git", f"swh:1:rev:{code['commit']}", path="dvc.yaml", version=code["commit"]
        ),
    }
    return Job(NAMESPACE, name, facets)


def _inputs(dossier: Dossier, stage: str) -> list[InputDataset]:
    """What a stage read, as dvc.lock says, less code; a check's assertions stand at the data it judged."""
    judged = stage.removeprefix(_CHECK) if stage.startswith(_CHECK) else ""
    found: list[InputDataset] = []
    for entry in _entries(dossier, stage, "deps"):
        path = entry["path"]
        if not _CODE.fullmatch(path):
            about = judged and (path == f"data/{judged}" or path.startswith(f"data/{judged}/"))
            facets: dict[str, InputDatasetFacet] = {}
            if about:
                facets["dataQualityAssertions"] = _assertions(dossier, judged)
            found.append(InputDataset(NAMESPACE, path, inputFacets=facets, facets=_version(entry)))
    return found


def _outputs(dossier: Dossier, stage: str) -> list[OutputDataset]:
    return [
        OutputDataset(NAMESPACE, entry["path"], facets=_version(entry)) for entry in _entries(dossier, stage, "outs")
    ]


def _entries(dossier: Dossier, stage: str, kind: str) -> list[dict[str, Any]]:
    return sorted(dossier.record["dvc"]["stages"].get(stage, {}).get(kind, []), key=lambda entry: entry["path"])


def _version(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {"version": dataset_version_dataset.DatasetVersionDatasetFacet(f"md5:{entry['md5']}")}


def _assertions(dossier: Dossier, stage: str) -> data_quality_assertions_dataset.DataQualityAssertionsDatasetFacet:
    verdict = dossier.record["verdicts"].get(stage, {"checks": []})
    made = [
        data_quality_assertions_dataset.Assertion(
            assertion=check["id"],
            success=check["passed"],
            severity="error" if check["severity"] == "critical" else "warn",
            expected=json.dumps(check["limit"], sort_keys=True),
            actual=json.dumps(check["observed"], sort_keys=True),
        )
        for check in verdict["checks"]
    ]
    return data_quality_assertions_dataset.DataQualityAssertionsDatasetFacet(made)


def _time(at: dt.datetime) -> str:
    return at.astimezone(dt.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
