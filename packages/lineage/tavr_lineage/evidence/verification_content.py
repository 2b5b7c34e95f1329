"""Steps about what the record pins: the attestation, files, the closure, and withdrawals since."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute
import yaml
from tavr_records.errors import VerificationError
from tavr_records.ids import clip_ids, sha256_bytes
from tavr_records.withdrawals import Withdrawal, parse_withdrawals

from tavr_lineage.closure import find_withdrawn_clips
from tavr_lineage.evidence.tables import DATABASE, read_closure, write_licences
from tavr_lineage.evidence.verification_log import Promoted, read_canonical
from tavr_lineage.subjects import subject_tree
from tavr_lineage.trust.attest import PREDICATE_TYPE, open_sealed
from tavr_lineage.trust.model_signature import MODEL_SIGNATURE, check_model_signature, model_folder

pc: Any = pyarrow.compute  # its functions are made when it is imported
Files = Mapping[str, bytes]
_IDS = ("clip_id", "stage", "person_id", "source_key", "source_sha256", "clip_sha256")


def check_attestation(files: Files, promoted: Promoted) -> tuple[bool, str]:
    """The signed in-toto statement is about this record and these model files, and so is the model's own signature."""
    data, record = files["attestation.json"], promoted.record
    if sha256_bytes(data) != promoted.entry["attestation_sha256"]:
        raise VerificationError("attestation.json: not the one that was promoted")
    told: dict[str, Any] = json.loads(open_sealed(data, promoted.signers(), "attestation.json"))
    model = {path: digest for path, digest in record["outputs"].items() if "/model/" in path}
    subjects = {subject["name"]: subject["digest"]["sha256"] for subject in told["subject"]}
    if subjects != {**model, "record.json": promoted.entry["record_sha256"]}:
        raise VerificationError("attestation.json: its subjects are not this record and its model files")
    run = told["predicate"]["runDetails"]["metadata"]["invocationId"]
    if told["predicateType"] != PREDICATE_TYPE or run != record["run"]["run_id"]:
        raise VerificationError("attestation.json: no SLSA provenance of this run")
    signed = _check_model(files, promoted)
    return True, f"{len(subjects)} subjects; {signed}"


def _check_model(files: Files, promoted: Promoted) -> str:
    folder = model_folder(promoted.record["params"])
    if MODEL_SIGNATURE not in files or folder is None:
        return f"no {MODEL_SIGNATURE}"
    outputs = promoted.record["outputs"].items()
    digests = {path.removeprefix(f"{folder}/"): digest for path, digest in outputs if path.startswith(f"{folder}/")}
    key = check_model_signature(files[MODEL_SIGNATURE], digests, promoted.log.keyring.believed("model"))
    return f"{MODEL_SIGNATURE} by {key.fingerprint}"


def check_files(files: Files, promoted: Promoted) -> tuple[bool, str]:
    """Lock files, parameters, verdicts and licences are those of the record."""
    record = promoted.record
    locks = {"dvc.lock": record["dvc"]["lock_sha256"], "requirements.lock": record["environment"]["lock_sha256"]}
    for name, digest in locks.items():
        if sha256_bytes(files[name]) != digest:
            raise VerificationError(f"{name}: differs from the record")
    if (yaml.safe_load(files["dvc.lock"]) or {}).get("stages", {}) != record["dvc"]["stages"]:
        raise VerificationError("dvc.lock: its stages are not those of the record")
    if yaml.safe_load(files["params.yaml"]) != record["params"]:
        raise VerificationError("params.yaml: differs from the record")
    verdicts = {name[9:-5]: data for name, data in files.items() if name.startswith("verdicts/")}
    for stage in sorted({*verdicts, *record["verdicts"]}):
        name = f"verdicts/{stage}.json"
        told = {**read_canonical(files[name], name), "sha256": sha256_bytes(files[name])}
        if told != record["verdicts"].get(stage):
            raise VerificationError(f"{name}: differs from the record")
    if files["licences.json"] != write_licences(record):
        raise VerificationError("licences.json: differs from the record")
    return True, f"2 lock files, parameters, {len(verdicts)} verdicts, licences"


def check_closure(files: Files, promoted: Promoted) -> tuple[pa.Table, str]:
    """Every row is well-formed, and all of them together give the Merkle root of the signed record."""
    table, pinned = read_closure(files[DATABASE]), promoted.record["consumption"]
    for name in _IDS:
        for value in table[name].unique().to_pylist():
            if not value.isascii():
                raise VerificationError(f"{DATABASE}: look-alike characters outside ASCII in {name} {value!a}")
    names = ["clip_id", "source_key", "start_ms", "end_ms"]
    sections = table.group_by(names).aggregate([])  # once a clip, however many stages used it
    told, *columns = (sections[column].to_pylist() for column in names)
    for name, computed in zip(told, clip_ids(*columns), strict=True):
        if name != computed:
            raise VerificationError(f"{DATABASE}: {name} is no such section")
    tree = subject_tree(table).tree
    counts = (len(table), tree.size, tree.root)
    if counts != (pinned["rows"], pinned["subjects"]["size"], pinned["subjects"]["merkle_root"]):
        raise VerificationError(f"{DATABASE}: a row was added, removed or changed; not the root of the record")
    return table, f"{len(table)} rows, {tree.size} subjects, root {tree.root}"


def check_withdrawals(files: Files, promoted: Promoted, closure: pa.Table) -> tuple[tuple[str, ...], str]:
    """Today's list grew from the judged one and from every logged one; nothing withdrawn by then was consumed."""
    data = files["withdrawn.jsonl"]
    lines = data.splitlines(keepends=True)
    digests = _digests_as_it_grew(lines)
    logged = [e for e in promoted.log.trusted() if e["event"] == "withdrawn"]
    for entry in (promoted.entry, *logged):
        if entry["withdrawn_sha256"] not in digests:
            raise VerificationError(
                f"withdrawn.jsonl: does not begin with the list of log line {entry['seq']}; a line is gone"
            )
    judged = max(
        digests.index(e["withdrawn_sha256"]) for e in (promoted.entry, *logged) if e["seq"] <= promoted.entry["seq"]
    )
    early, late = _split(parse_withdrawals(data.decode(), "withdrawn.jsonl"), judged, str(promoted.entry["at"]))
    if consumed := find_withdrawn_clips(closure, early):
        raise VerificationError(
            f"withdrawn.jsonl: clip {consumed[0][:12]}, withdrawn before the promotion, was consumed"
        )
    found = tuple(find_withdrawn_clips(closure, late))
    return found, f"{len(lines)} withdrawals; {len(found)} consumed clips withdrawn since the promotion"


def judged_withdrawals(data: bytes, digest: str) -> list[Withdrawal]:
    """The withdrawals on the list when its sha256 was `digest`.

    Raises:
        VerificationError: the list does not begin with that one.
    """
    lines = data.splitlines(keepends=True)
    digests = _digests_as_it_grew(lines)
    if digest not in digests:
        raise VerificationError("withdrawn.jsonl: does not begin with the list that was judged; a line is gone")
    return parse_withdrawals(b"".join(lines[: digests.index(digest)]).decode(), "withdrawn.jsonl")


def _digests_as_it_grew(lines: Sequence[bytes]) -> list[str]:
    """sha256 of the list when it had none, one, two, ... of its lines."""
    return [sha256_bytes(b"".join(lines[:count])) for count in range(len(lines) + 1)]


def _split(known: Sequence[Withdrawal], judged: int, at: str) -> tuple[list[Withdrawal], list[Withdrawal]]:
    """The withdrawals that count as from before a promotion at `at`, whose gate saw `judged` lines, and the others."""
    before = [index < judged or item.withdrawn_at < at for index, item in enumerate(known)]
    split = list(zip(known, before, strict=True))
    return [item for item, early in split if early], [item for item, early in split if not early]
