"""Receipts: who holds a copy of a published model. "Deployed" means pulled and not returned.

A receipt is a DSSE envelope signed with the puller's own key, at `<artifact>/receipts/<version>/<id>.pulled.json` and
in the folder it came to; `<id>.returned.json`, signed with the same key, says that the folder is gone.
"""

import getpass
import json
import os
import shutil
import socket
import uuid
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast

from tavr_records.errors import InputError, VerificationError
from tavr_records.ids import canonical_json

from tavr_lineage.clock import now
from tavr_lineage.publication.storage import Storage, list_objects, read_object, write_object
from tavr_lineage.trust.attest import seal, verify_sealed
from tavr_lineage.trust.keys import PublicKey, SigningKey

PAYLOAD_TYPE = "application/vnd.tavr.receipt+json"
RECEIPT = "receipt.json"
SCHEMA_VERSION = 1
PULLED, RETURNED = "pulled", "returned"
_NUMBERS = ("schema_version", "counter")


@dataclass(frozen=True)
class Pull:
    """What was pulled: the facts of a receipt that its reader does not make himself.

    Attributes:
        url: the bucket's prefix that the model came from.
        stage: stage it was asked for by; "" for a version.
        counter: of the stage's assignment; 0 for a version.
    """

    url: str
    artifact: str
    version: str
    stage: str
    counter: int
    commit: str
    record_sha256: str
    manifest_sha256: str


@dataclass(frozen=True)
class Receipt(Pull):
    """What a receipt says: what was pulled, by whom and when.

    Attributes:
        id: 32 hex digits.
        what: `pulled` or `returned`.
        who: account on the machine `host`.
        public_key: the key that signs it.
    """

    schema_version: int
    id: str
    what: str
    who: str
    host: str
    at: str
    public_key: str


@dataclass(frozen=True)
class Copy:
    """A copy somebody pulled; `returned_at` is "" while it is deployed, `problem` "" when the receipt verifies."""

    path: str
    receipt: Receipt | None
    returned_at: str
    problem: str

    @property
    def deployed(self) -> bool:
        """Pulled and not returned; a receipt that does not verify counts, so that nobody hides by spoiling it."""
        return not self.returned_at


def make_receipt(pull: Pull, key: SigningKey) -> tuple[Receipt, bytes]:
    """A receipt in the name of this account and machine, and its signed bytes."""
    receipt = Receipt(
        **asdict(pull), schema_version=SCHEMA_VERSION, id=uuid.uuid4().hex, what=PULLED, who=_who(),
        host=socket.gethostname(), at=now(), public_key=key.public,
    )  # fmt: skip
    return receipt, _signed(receipt, key)


def receipt_path(receipt: Receipt) -> str:
    """Where it lies in the bucket."""
    return f"{receipt.artifact}/receipts/{receipt.version}/{receipt.id}.{receipt.what}.json"


def leave_receipt(storage: Storage, receipt: Receipt, data: bytes) -> None:
    """Put a receipt into the bucket."""
    write_object(storage, receipt_path(receipt), data, keep=True)


def open_receipt(data: bytes, where: str) -> Receipt:
    """Read a receipt and check that the key it names signed it.

    Raises:
        VerificationError: not a receipt, or its signature does not hold.
    """
    try:
        payload = _payload(data)
        document = cast("dict[str, Any]", json.loads(payload))
        receipt = Receipt(**document)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise VerificationError(f"{where}: not a receipt ({error!r})") from error
    typed = all(type(value) is (int if name in _NUMBERS else str) for name, value in document.items())
    if not typed or receipt.schema_version != SCHEMA_VERSION or canonical_json(document) != payload:
        raise VerificationError(f"{where}: not a receipt (another schema version or type, or not canonical JSON)")
    if not receipt.public_key.startswith("ssh-ed25519 "):
        raise VerificationError(f"{where}: {receipt.public_key[:40]!r}: no ed25519 key")
    verify_sealed(data, [PublicKey(receipt.public_key)], where)
    return receipt


def list_receipts(storage: Storage, artifact: str, version: str | None = None) -> list[Copy]:
    """Every copy that was pulled of an artifact, or of one of its versions, by path.

    A return counts only when the key that pulled signed it for the same receipt.
    """
    folder = f"{artifact}/receipts/{version}/" if version is not None else f"{artifact}/receipts/"
    paths = [listed.path for listed in list_objects(storage, folder)]
    returned = {path for path in paths if path.endswith(f".{RETURNED}.json")}
    copies: list[Copy] = []
    for path in paths:
        if path in returned:
            continue
        back = path.removesuffix(f".{PULLED}.json") + f".{RETURNED}.json"
        copies.append(_copy(storage, path, back if back in returned else ""))
    return copies


def _copy(storage: Storage, path: str, back: str) -> Copy:
    try:
        receipt = _read(storage, path)
    except VerificationError as error:
        return Copy(path, None, "", str(error))
    if not back:
        return Copy(path, receipt, "", "")
    try:
        said = _read(storage, back)
    except VerificationError as error:
        return Copy(path, receipt, "", str(error))
    if replace(said, what=PULLED, at=receipt.at, who=receipt.who, host=receipt.host) != receipt:
        return Copy(path, receipt, "", f"{storage.url(back)}: returns something else than {receipt.id}")
    return Copy(path, receipt, said.at, "")


def _read(storage: Storage, path: str) -> Receipt:
    """A receipt of the bucket, which must lie where it belongs."""
    stored = read_object(storage, path)
    receipt = open_receipt(stored.data if stored is not None else b"", storage.url(path))
    if receipt_path(receipt) != path:
        raise VerificationError(f"{storage.url(path)}: the receipt is for {receipt_path(receipt)}")
    return receipt


def give_back(storage: Storage, folder: Path, key: SigningKey) -> Receipt:
    """Delete a pulled folder and say so in the bucket.

    Raises:
        InputError: the folder was not pulled, came from elsewhere, or was pulled with another key.
    """
    try:
        receipt = open_receipt((folder / RECEIPT).read_bytes(), str(folder / RECEIPT))
    except OSError as error:
        raise InputError(f"{folder / RECEIPT}: no such file; name a folder that `tavr pull` wrote") from error
    if receipt.public_key != key.public:
        raise InputError(f"{folder / RECEIPT}: pulled with another key; name it in TAVR_SIGNING_KEY")
    if receipt.url != storage.url():
        raise InputError(f"{folder / RECEIPT}: pulled from {receipt.url}, not {storage.url()}; set TAVR_S3_URL")
    returned = replace(receipt, what=RETURNED, at=now(), who=_who(), host=socket.gethostname())
    for path in folder.iterdir():  # the receipt goes last, so that an interrupted return can be repeated
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.name != RECEIPT:
            path.unlink()
    leave_receipt(storage, returned, _signed(returned, key))
    shutil.rmtree(folder)
    return returned


def _signed(receipt: Receipt, key: SigningKey) -> bytes:
    return canonical_json(seal(canonical_json(asdict(receipt)), PAYLOAD_TYPE, key)) + b"\n"


def _payload(data: bytes) -> bytes:
    from securesystemslib.dsse import Envelope

    envelope = Envelope.from_dict(json.loads(data))
    if envelope.payload_type != PAYLOAD_TYPE:
        raise ValueError(f"payloadType is {envelope.payload_type!r}")
    return envelope.payload


def _who() -> str:
    """The account, also where the machine has no name for it."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return f"uid {os.getuid()}"
