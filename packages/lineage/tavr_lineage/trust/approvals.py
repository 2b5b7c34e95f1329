"""Approvals that carry the approver's own SSH signature: one person's yes to one record for one target stage.

The signed text is canonical JSON {schema_version, record_sha256, target, approver, at}; the signature is what
`ssh-keygen -Y sign -n tavr-approval` makes. It counts if its key is the approver's in the committed `conf/approvers`.
"""

import datetime as dt
import json
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tavr_records.errors import InputError, VerificationError
from tavr_records.ids import canonical_json

from tavr_lineage.gate import Approval
from tavr_lineage.git import GitError, git
from tavr_lineage.require import require
from tavr_lineage.trust.allowed_signers import APPROVERS, AllowedSigner, principals_of, read_signers
from tavr_lineage.trust.keys import PublicKey, load_key, load_public
from tavr_lineage.trust.people import is_same_person
from tavr_lineage.trust.sshsig import verify_signature

NAMESPACE = "tavr-approval"
EVENT, ASSURANCE = "approved", "ssh-signed"
_SCHEMA_VERSION = 1


@dataclass(frozen=True)
class SignedApproval:
    """The signed text and its armored signature."""

    payload: str
    signature: str


@dataclass(frozen=True)
class Statement:
    """What an approver signs; `at` is theirs to say, in UTC."""

    schema_version: int
    record_sha256: str
    target: str
    approver: str
    at: str


def approval_payload(record_sha256: str, target: str, approver: str, at: str) -> str:
    """The text to sign."""
    return canonical_json(asdict(Statement(_SCHEMA_VERSION, record_sha256, target, approver, at))).decode("utf-8")


def sign_approval(payload: str, key: Path) -> SignedApproval:
    """Sign with `ssh-keygen`, which asks for a passphrase or an agent where the key needs one.

    Args:
        payload: the text of `approval_payload`.
        key: a private key file, or a public one whose private half an agent holds.

    Raises:
        InputError: there is no `ssh-keygen`, or it cannot use the key.
    """
    command = ["ssh-keygen", "-q", "-Y", "sign", "-n", NAMESPACE, "-f", str(key)]
    try:
        made = subprocess.run(command, input=payload.encode(), capture_output=True, check=False)
    except FileNotFoundError as error:
        raise InputError(
            "ssh-keygen: no such command; install OpenSSH's client, or sign elsewhere (--payload, --signature)"
        ) from error
    if made.returncode != 0:
        raise InputError(f"--key {key}: {made.stderr.decode(errors='replace').strip()}; name an SSH key you may use")
    return SignedApproval(payload, made.stdout.decode("ascii"))


def approver_of(root: Path, key: Path, approver: str = "") -> str:
    """Who signs with a key, by the committed approvers; `approver` chooses where one key speaks for several.

    Raises:
        InputError: it speaks for nobody, not for them, or for several.
    """
    beside = key if key.suffix == ".pub" else key.with_name(key.name + ".pub")
    public = load_public(beside) if beside.is_file() else PublicKey(load_key(key).public)
    now = dt.datetime.now(dt.UTC)
    known = principals_of(read_signers(root, APPROVERS), public, NAMESPACE, now)
    if not known:
        raise InputError(
            f"--key {key}: {public.fingerprint} is nobody's in the committed {APPROVERS}; add and commit it"
        )
    if approver and approver not in known:
        raise InputError(f"--as {approver}: the key is of {', '.join(known)}")
    if not approver and len(known) > 1:
        raise InputError(f"--as: the key is of {', '.join(known)}; say as whom")
    return approver or known[0]


def default_key(root: Path) -> Path:
    """The SSH key that git signs with.

    Raises:
        InputError: git has none.
    """
    try:
        named = git(root, "config", "user.signingKey") if git(root, "config", "gpg.format") == "ssh" else ""
    except GitError:
        named = ""
    if not named:
        raise InputError("--key: name the SSH key to sign with (git has none configured)")
    return Path(named).expanduser()


def verify_approval(
    approval: SignedApproval, record_sha256: str, target: str, requester: str, approvers: Sequence[AllowedSigner]
) -> Approval:
    """Hold an approval against the candidate, its requester and the committed approvers.

    Raises:
        VerificationError: it is for another record or target, by nobody who may, or by the requester; says which.
    """
    told = _parse(approval.payload)
    if told.record_sha256 != record_sha256:
        approved = told.record_sha256[:12]
        raise VerificationError(f"{told.approver}: approves the record {approved}, not {record_sha256[:12]}")
    if told.target != target:
        raise VerificationError(f"{told.approver}: approves it for {told.target}, not for {target}")
    try:
        key = verify_signature(approval.signature, approval.payload.encode("utf-8"), NAMESPACE)
    except VerificationError as error:
        raise VerificationError(f"{told.approver}: {error}") from error
    at = dt.datetime.fromisoformat(told.at)
    if not any(one.key == key and one.allows(told.approver, NAMESPACE, at) for one in approvers):
        raise VerificationError(f"{told.approver}: {APPROVERS} gives them no key {key.fingerprint} valid at {told.at}")
    if is_same_person(told.approver, requester):
        raise VerificationError(f"{told.approver}: is the requester ({requester}); somebody else must approve")
    return Approval(told.approver, ASSURANCE)


def collect_approvals(
    entries: Iterable[Mapping[str, Any]], record: Mapping[str, Any], record_sha256: str, target: str,
    approvers: Sequence[AllowedSigner],
) -> tuple[list[Approval], list[str]]:  # fmt: skip
    """The log's approvals of a candidate for a target: those that count, and a reason for each that does not.

    An entry that names the run but another record (an earlier try of it) is doubtful too.
    """
    good: list[Approval] = []
    doubtful: list[str] = []
    for entry in entries:
        about = record_sha256 == entry.get("record_sha256") or record["run"]["run_id"] == entry.get("run")
        if entry["event"] != EVENT or not about or entry.get("target") != target:
            continue
        try:
            signed = SignedApproval(str(entry.get("payload")), str(entry.get("approval_signature")))
            good.append(verify_approval(signed, record_sha256, target, record["run"]["requested_by"], approvers))
        except VerificationError as error:
            doubtful.append(f"line {entry['seq']}: {error}")
    return good, doubtful


def _parse(payload: str) -> Statement:
    try:
        values: dict[str, Any] = json.loads(payload)
        told = Statement(**values)
        require(canonical_json(values).decode("utf-8") == payload, "not canonical JSON")
        require(values.pop("schema_version") == _SCHEMA_VERSION, f"schema_version is not {_SCHEMA_VERSION}")
        require(all(isinstance(value, str) for value in values.values()), "a field is not text")
        require(dt.datetime.fromisoformat(told.at).tzinfo, f"at is {told.at!r}, without a time zone")
    except (ValueError, TypeError, RecursionError) as error:
        raise VerificationError(f"not an approval ({error}); let `tavr approve --write-payload` write it") from error
    return told
