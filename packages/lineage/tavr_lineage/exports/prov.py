"""W3C PROV: files are entities, stages activities, and who asked, approved, signed or ran code are agents."""

import datetime as dt
import io
from collections.abc import Mapping
from typing import Any

from prov.identifier import Namespace
from prov.model import ProvAgent, ProvDocument, ProvEntity

from tavr_lineage.exports.dossier import Dossier

NAMESPACE = "https://tavr.invalid/prov#"
FORMATS = {".json": "json", ".provn": "provn"}
_PATH = str.maketrans({" ": "_", "|": "_"})


def prov_document(dossier: Dossier) -> ProvDocument:
    """The candidate's whole graph: from pinned weights and inputs through the stages to files, record and decisions."""
    record = dossier.record
    document = ProvDocument()
    ns = document.add_namespace("tavr", NAMESPACE)
    document.add_namespace("swh", "https://archive.softwareheritage.org/swh:1:rev:")
    run = document.activity(
        ns[f"run/{record['run']['run_id']}"],
        record["run"]["started_at"],
        record["run"]["finished_at"],
        {"prov:label": "retrain", ns["reason"]: record["run"]["reason"]},
    )
    requester = document.agent(ns["agent/requester"], {"prov:label": record["run"]["requested_by"]})
    software = _software(document, ns, dossier)
    document.association(run, requester)
    document.association(run, software)
    entities = _stages(document, ns, dossier, software)
    for row in record["weights"]:
        facts = {ns["sha256"]: row["sha256"], ns["licence"]: row["licence"], ns["origin"]: row["origin"]}
        entities[f"data/weights/{row['path']}"] = _file(document, ns, f"data/weights/{row['path']}", facts)
    _files(document, ns, dossier, entities)
    sealed = _file(document, ns, "record.json", {ns["sha256"]: dossier.record_sha256})
    document.generation(sealed, run)
    for parent in record["run"]["parents"]:
        earlier = document.entity(ns[f"record/{parent['run_id']}"], {ns["sha256"]: parent["record_sha256"]})
        document.derivation(sealed, earlier)
    _decisions(document, ns, dossier, sealed)
    return document


def render_prov(document: ProvDocument, suffix: str) -> bytes:
    """The document in PROV-JSON (`.json`) or PROV-N (`.provn`)."""
    stream = io.StringIO()
    options = {"sort_keys": True, "indent": 1} if suffix == ".json" else {}
    document.serialize(stream, format=FORMATS[suffix], **options)
    return stream.getvalue().rstrip("\n").encode() + b"\n"


def _software(document: ProvDocument, ns: Namespace, dossier: Dossier) -> ProvAgent:
    code, environment = dossier.record["code"], dossier.record["environment"]
    facts = {
        "prov:type": "prov:SoftwareAgent",
        "prov:label": "tavr",
        ns["commit"]: code["commit"],
        ns["tree"]: code["tree"],
        ns["dirty"]: code["dirty"],
        ns["requirements_sha256"]: environment["lock_sha256"] or "",
    }
    return document.agent(ns["agent/software"], facts)


def _stages(document: ProvDocument, ns: Namespace, dossier: Dossier, software: ProvAgent) -> dict[str, ProvEntity]:
    """Each stage that ran, what it used and what it made, as dvc.lock says."""
    record = dossier.record
    entities: dict[str, ProvEntity] = {}
    began = dt.datetime.fromisoformat(record["run"]["started_at"])
    for stage in record["stages"]:
        ended = began + dt.timedelta(seconds=stage["seconds"])
        if stage["state"] != "not_run":
            facts = {"prov:label": stage["name"], ns["state"]: stage["state"], ns["message"]: stage["reason"]}
            activity = document.activity(ns[f"stage/{stage['name']}"], began, ended, facts)
            document.association(activity, software)
            lock = record["dvc"]["stages"].get(stage["name"], {})
            for entry in lock.get("deps", []):
                document.usage(activity, _dataset(document, ns, entry, entities))
            for entry in lock.get("outs", []):
                document.generation(_dataset(document, ns, entry, entities), activity)
        began = ended
    return entities


def _dataset(
    document: ProvDocument, ns: Namespace, entry: Mapping[str, Any], entities: dict[str, ProvEntity]
) -> ProvEntity:
    path = entry["path"]
    if path not in entities:
        facts = {ns["md5"]: entry["md5"]} | ({ns["bytes"]: entry["size"]} if "size" in entry else {})
        entities[path] = _file(document, ns, path, facts)
    return entities[path]


def _files(document: ProvDocument, ns: Namespace, dossier: Dossier, entities: dict[str, ProvEntity]) -> None:
    """Single files with their sha256, as members of the folder that DVC tracks."""
    record = dossier.record
    digests = dict(record["outputs"])
    digests |= {f"reports/{stage}/verdict.json": verdict["sha256"] for stage, verdict in record["verdicts"].items()}
    digests[record["consumption"]["path"]] = record["consumption"]["sha256"]
    for path, digest in sorted(digests.items()):
        if path in entities:
            entities[path].add_attributes({ns["sha256"]: digest})
            continue
        entities[path] = _file(document, ns, path, {ns["sha256"]: digest})
    for path in sorted(entities):
        folder = "/".join(path.split("/")[:2])
        if folder != path and folder in entities:
            document.membership(entities[folder], entities[path])


def _decisions(document: ProvDocument, ns: Namespace, dossier: Dossier, sealed: ProvEntity) -> None:
    """What the audit log says was decided about this candidate, and by whom."""
    for entry in dossier.events:
        facts = {"prov:label": entry["event"], ns["target"]: str(entry.get("target", ""))}
        activity = document.activity(ns[f"log/{entry['seq']}"], entry["at"], entry["at"], facts)
        document.usage(activity, sealed)
        who = [("actor", entry.get("actor")), ("approver", entry.get("approver"))]
        who += [("approver", approval) for approval in entry.get("approvals", [])]
        for role, name in who:
            if name:
                person = _person(document, ns, str(name))
                document.association(activity, person, other_attributes={"prov:role": role})
        if entry["event"] == "promoted":
            version = document.entity(ns[f"version/{entry['version']}"], {"prov:label": dossier.name})
            document.generation(version, activity)
            document.derivation(version, sealed, activity)


def _person(document: ProvDocument, ns: Namespace, who: str) -> ProvAgent:
    name = ns[f"agent/{''.join(c if c.isalnum() else '_' for c in who)}"]
    known = [agent for agent in document.get_record(name) if isinstance(agent, ProvAgent)]
    return known[0] if known else document.agent(name, {"prov:label": who})


def _file(document: ProvDocument, ns: Namespace, path: str, facts: Mapping[Any, Any]) -> ProvEntity:
    return document.entity(ns[path.translate(_PATH)], {"prov:label": path, **facts})
