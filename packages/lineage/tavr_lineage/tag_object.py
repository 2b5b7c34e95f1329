"""A git tag object by its raw bytes (`git cat-file tag NAME`): whom it names, what it says, who signed it."""

import json
import re
from typing import Any

from tavr_records.errors import InputError, VerificationError

from tavr_lineage.attest import open_sealed
from tavr_lineage.keys import PublicKey
from tavr_lineage.registry import TAG_PAYLOAD_TYPE
from tavr_lineage.sshsig import BEGIN, verify_signature

_SEALED = re.compile(r"^dsse: (\{.*\})$", re.MULTILINE)


def check_tag_object(raw: bytes, name: str, commit: str, key: PublicKey) -> dict[str, str]:
    """The `field: value` lines of a tag that points to `commit` and is signed by `key`.

    Raises:
        VerificationError: another tag, a moved one, or one that the key did not sign.
    """
    body, mark, armored = raw.partition(BEGIN.encode())
    head, _, message = body.decode().partition("\n\n")
    headers = dict(line.split(" ", 1) for line in head.split("\n"))
    if headers.get("tag") != name or headers.get("type") != "commit" or headers.get("object") != commit:
        where = str(headers.get("object"))[:12]
        raise VerificationError(f"tag {name}: points to {where}, not to the promoted commit")
    facts = dict(line.split(": ", 1) for line in message.split("\n") if ": " in line and not line.startswith("dsse: "))
    sealed = _SEALED.search(message)
    try:
        if mark:
            signer = verify_signature((mark + armored).decode("ascii"), body, "git").fingerprint
        elif sealed is not None:
            _check_sealed(sealed[1], name, commit, facts, key)
            signer = key.fingerprint
        else:
            signer = "nobody"
    except (VerificationError, InputError, UnicodeDecodeError) as error:
        raise VerificationError(f"tag {name}: {error}") from error
    if signer != key.fingerprint:
        raise VerificationError(f"tag {name}: signed by {signer}, not by the key of its line, {key.fingerprint}")
    return facts


def _check_sealed(text: str, name: str, commit: str, facts: dict[str, str], key: PublicKey) -> None:
    """A tag made where git could not sign: tag, commit and facts lie sealed in its message."""
    document: dict[str, Any] = json.loads(text)
    if document["payloadType"] != TAG_PAYLOAD_TYPE:
        raise VerificationError(f"its seal is of type {document['payloadType']!r}")
    told = json.loads(open_sealed(text.encode(), [key], "its seal"))
    said = {field: value for field, value in facts.items() if field != "key"}
    if (told["tag"], told["commit"], told["facts"]) != (name, commit, said):
        raise VerificationError("its signature was made for another tag, commit or message")
