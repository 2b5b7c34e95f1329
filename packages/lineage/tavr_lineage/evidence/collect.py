"""The evidence of a release: one flat mapping name -> bytes, out of a checkout or out of an evidence file.

It holds what a stranger needs to judge the release without the repository: the record and its signatures, the whole log
and its keys, the two tags, what the record pins, the closure, and the policy, approvers and champion of the promotion.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from tavr_records.errors import InputError, VerificationError
from tavr_records.ids import canonical_json, sha256_bytes

from tavr_lineage.candidate import tree_without_seal
from tavr_lineage.case import JUDGES, WITHDRAWN
from tavr_lineage.clock import now
from tavr_lineage.closure import parse_consumption, read_consumption
from tavr_lineage.evidence.container import read_zip
from tavr_lineage.evidence.tables import DATABASE, write_closure, write_licences
from tavr_lineage.evidence.verification import Demands, Verification, verify_evidence
from tavr_lineage.evidence.verification_gate import CHAMPION_PROOF
from tavr_lineage.evidence.verification_log import Promoted, write_keys
from tavr_lineage.evidence.weights_folder import check_weights
from tavr_lineage.git import GitError, git, git_bytes, main_checkout, read_file, repository_root
from tavr_lineage.outputs import find_mismatches
from tavr_lineage.policy import POLICY, Policy, read_policy
from tavr_lineage.record import RECORD, parse_record
from tavr_lineage.registry import MOVES, last_move
from tavr_lineage.subjects import subject_tree
from tavr_lineage.trust.attest import ATTESTATION
from tavr_lineage.trust.checkpoint import EVENT as CHECKPOINT
from tavr_lineage.trust.checkpoint import make_checkpoint
from tavr_lineage.trust.keys import signing_key
from tavr_lineage.trust.log import Log, check_signer, open_log
from tavr_lineage.trust.model_signature import MODEL_SIGNATURE
from tavr_lineage.withdrawal.tombstones import withdrawn_inputs

_COMMITTED = (RECORD, ATTESTATION, MODEL_SIGNATURE, "dvc.lock", "params.yaml", "requirements.lock")


@dataclass(frozen=True)
class Asked:
    """What a reader of evidence trusts and asks for besides (`Demands`)."""

    trust: str = ""
    since: Path | None = None
    weights: Path | None = None


def verify_release(root: Path, release: str, asked: Asked) -> Verification:
    """Verify an evidence file, or a version or stage of the checkout; a checkout's stored outputs are checked too.

    Raises:
        InputError: no such release, file or checkpoint.
    """
    since = _read(asked.since) if asked.since is not None else None
    weights = {} if asked.weights is None else {"weights": partial(_weights, asked.weights)}
    if is_file(release):
        try:
            files = read_zip(Path(release))
        except VerificationError as error:
            return Verification.of_container(str(error))
        return verify_evidence(files, Demands(asked.trust, since, more=weights))
    root = repository_root(root)
    files = collect_evidence(root, release)
    more = {"stored": partial(_stored, root), "tree": partial(_tree, root), **weights}
    return verify_evidence(files, Demands(asked.trust, since, checkpoint=False, more=more))


def is_file(release: str) -> bool:
    """Whether a release is named by an evidence file."""
    return release.endswith(".zip") or Path(release).is_file()


def collect_evidence(root: Path, release: str) -> dict[str, bytes]:
    """The evidence of `tavr@v0.0.3`, `v0.0.3` or a stage, as the repository has it.

    Raises:
        InputError: the log promoted no such release, or something it needs is not in the repository.
    """
    root = repository_root(root)
    log, policy = open_log(root), read_policy(root / POLICY)
    promoted = find_promotion(log, policy, release)
    commit = str(promoted["commit"])
    files = _of_commit(root, commit)
    record = parse_record(files[RECORD], f"{commit[:12]}:{RECORD}")
    table = _demand(root, commit, record["consumption"]["path"])
    judged_by = _version_of(root, str(POLICY), str(promoted["policy_sha256"]))
    files |= {
        "log.jsonl": log.data,
        "keys.json": write_keys(log),
        "commit": git_bytes(root, "cat-file", "commit", commit),
        "policy.yaml": judged_by,
        "policy.json": canonical_json(yaml.safe_load(judged_by)),
        "withdrawn.jsonl": _read(root / WITHDRAWN),
        DATABASE: write_closure(parse_consumption(table)),
        "licences.json": write_licences(record),
        **{f"tags/{name}": _tag(root, name) for name in promoted["tags"]},
        **{
            f"verdicts/{stage}.json": _demand(root, commit, f"reports/{stage}/verdict.json")
            for stage in record["verdicts"]
        },
    }
    found = _judges_of(root, promoted)
    found |= {**_champion(root, log, promoted), "checkpoint.json": _checkpoint(root, log, policy)}
    return files | {name: data for name, data in found.items() if data is not None}


def find_promotion(log: Log, policy: Policy, release: str) -> dict[str, Any]:
    """The log's last trusted promotion of a version, or of the version that holds a stage.

    Raises:
        InputError: there is none.
    """
    label, target = release.removeprefix(f"{policy.artifact}@"), None
    if release in policy.targets:
        held = last_move(log, release)
        if held is None:
            raise InputError(f"{release}: no version holds this stage; promote one with `tavr promote`")
        label, target = str(held["version"]), release
    for entry in reversed(list(log.trusted())):
        if entry["event"] == "promoted" and entry["version"] == label and target in (None, entry["target"]):
            return entry
    raise InputError(f"{release!r}: no such release on the log; name a version, a stage or an evidence file")


def _of_commit(root: Path, commit: str) -> dict[str, bytes]:
    """Record, signatures and lock files as committed; only the model's own signature may be absent."""
    found = {name: read_file(root, commit, name) for name in _COMMITTED}
    for name, data in found.items():
        if data is None and name != MODEL_SIGNATURE:
            raise InputError(f"commit {commit[:12]} carries no {name}; fetch the run's branch, or name a finished run")
    return {name: data for name, data in found.items() if data is not None}


def _demand(root: Path, commit: str, path: str) -> bytes:
    data = read_file(root, commit, path)
    if data is None:
        raise InputError(f"commit {commit[:12]} carries no {path}, which its record names; fetch the run's branch")
    return data


def _judges_of(root: Path, promoted: Mapping[str, Any]) -> dict[str, bytes]:
    """Approvers, witnesses and roots as the promotion had them."""
    return {name: _version_of(root, JUDGES[name], digest) for name, digest in promoted["judges"].items()}


def _version_of(root: Path, path: str, digest: str) -> bytes:
    """The committed file with this sha256, out of the history of all branches."""
    history = git(root, "log", "--all", "--format=%H", "--", path).split()
    for commit in ("HEAD", *history):
        data = read_file(root, commit, path)
        if data is not None and sha256_bytes(data) == digest:
            return data
    raise InputError(f"{path}: no version in git has the sha256 {digest[:12]} that the promotion names; fetch all")


def _tag(root: Path, name: str) -> bytes:
    try:
        return git_bytes(root, "cat-file", "tag", name)
    except GitError as error:
        raise InputError(f"tag {name}: the log names it and it is not here ({error}); fetch tags") from error


def _champion(root: Path, log: Log, promoted: Mapping[str, Any]) -> dict[str, bytes]:
    """The record of the version that held the target before; the proof that somebody in it had withdrawn."""
    moves = [e for e in log.trusted() if e["event"] in MOVES and e["seq"] < promoted["seq"]]
    held = [entry for entry in moves if entry["target"] == promoted["target"]]
    if not held or held[-1]["commit"] == promoted["commit"]:
        return {}
    commit = str(held[-1]["commit"])
    found = {"champion.json": _demand(root, commit, RECORD)}
    gone = promoted.get("withdrawn_champion")
    if gone is not None:
        record = parse_record(found["champion.json"], f"{commit[:12]}:{RECORD}")
        proof = subject_tree(read_consumption(root, commit, record)).prove(gone["kind"], gone["value"])
        found[CHAMPION_PROOF] = canonical_json(proof) + b"\n"
    return found


def _checkpoint(root: Path, log: Log, policy: Policy) -> bytes | None:
    """A fresh checkpoint by our key, else the newest one on the log, else none."""
    try:
        key = signing_key(root)
        check_signer(log, key)
    except InputError:
        logged = [entry for entry in log.trusted() if entry["event"] == CHECKPOINT]
        return str(logged[-1]["envelope"]).encode() if logged else None
    return make_checkpoint(log, policy.artifact, now(), key)


def _stored(root: Path, promoted: Promoted) -> str:
    """Stored outputs and the commit's files are the record's; what a signed certificate purged may be gone."""
    commit = str(promoted.entry["commit"])
    believed = open_log(root).keyring.believed()
    purged = {one.name for one in withdrawn_inputs(root, commit, believed) if one.what == "file"}
    problems = find_mismatches(root, commit, promoted.record, main_checkout(root) / ".dvc/cache", purged)
    if problems:
        raise VerificationError("; ".join(problems))
    removed = f", {len(purged)} files purged" if purged else ""
    return f"{len(promoted.record['outputs'])} outputs as recorded in the DVC cache{removed}"


def _tree(root: Path, promoted: Promoted) -> str:
    """The promoted commit, less its seal, is the tree on the record; git still has the tags that the log names."""
    commit, told = str(promoted.entry["commit"]), promoted.record["code"]["tree"]
    if tree_without_seal(root, commit) != told:
        raise VerificationError("the commit's files are not the tree the record names")
    return f"git tree {told}"


def _weights(folder: Path, promoted: Promoted) -> str:
    return check_weights(promoted.record, folder)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
