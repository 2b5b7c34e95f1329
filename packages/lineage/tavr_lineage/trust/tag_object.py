"""A git tag object by its raw bytes (`git cat-file tag NAME`), without a repository: what it says and who signed it."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from tavr_records.errors import VerificationError
from tavr_records.ids import canonical_json

from tavr_lineage.trust.keys import PublicKey, SigningKey
from tavr_lineage.trust.sshsig import BEGIN, END, verify_signature

TAG_PAYLOAD_TYPE = "application/vnd.tavr.tag+json"
_FORM = re.compile(
    r"object (?P<commit>[0-9a-f]{40})\ntype commit\ntag (?P<name>[^\n]+)\ntagger [^\n]+\n\n"
    r"(?P<title>[^\n]*)\n\n(?P<message>.*)",
    re.DOTALL,
)
_ARMORED = re.compile(rf"{BEGIN}\n[A-Za-z0-9+/=\n]+\n{END}\n".encode())


@dataclass(frozen=True)
class TagObject:
    """What a signed tag says.

    Attributes:
        name: of the tag.
        commit: it points to.
        title: its first line.
        facts: the `field: value` lines below it, the key's among them.
        signer: fingerprint of the key that signed it.
        how: `ssh`, or `dsse` for a tag made where git could not sign.
    """

    name: str
    commit: str
    title: str
    facts: Mapping[str, str]
    signer: str
    how: Literal["ssh", "dsse"]


def open_tag(raw: bytes, keys: Sequence[PublicKey | SigningKey], where: str) -> TagObject:
    """Read a tag that one of `keys` signed; `where` starts every message.

    Raises:
        VerificationError: no annotated tag of a commit, not signed, or not by that one of `keys` which it names.
    """
    body, mark, armored = raw.partition(BEGIN.encode())
    try:
        form = _FORM.fullmatch(body.decode())
    except UnicodeDecodeError:
        form = None
    if form is None:
        raise VerificationError(f"{where}: not an annotated tag of a commit, with a title and facts")
    facts = dict(line.split(": ", 1) for line in form["message"].split("\n") if ": " in line)
    sealed = facts.pop("dsse", None)
    if not mark and sealed is None:
        raise VerificationError(f"{where}: is not signed")
    named = facts.get("key")
    key = next((key for key in keys if key.fingerprint == named), None)
    if key is None:
        raise VerificationError(f"{where}: signed by {named}, which is none of the trusted keys")
    how = "ssh" if mark else "dsse"
    tag = TagObject(form["name"], form["commit"], form["title"], facts, key.fingerprint, how)
    if mark:
        _check_ssh(body, mark + armored, key, where)
    else:
        _check_sealed(tag, str(sealed), key, where)
    return tag


def _check_ssh(body: bytes, armored: bytes, key: PublicKey | SigningKey, where: str) -> None:
    if _ARMORED.fullmatch(armored) is None:
        raise VerificationError(f"{where}: its signature cannot be read")
    try:
        signer = verify_signature(armored.decode("ascii"), body, "git")
    except VerificationError as error:
        raise VerificationError(f"{where}: {error}") from error
    if signer.public != key.public:
        raise VerificationError(f"{where}: signed by {signer.fingerprint}, not by the key it names, {key.fingerprint}")


def _check_sealed(tag: TagObject, sealed: str, key: PublicKey | SigningKey, where: str) -> None:
    """A tag made where git could not sign carries what it says in an envelope of its own."""
    from tavr_lineage.trust.attest import verify_sealed  # seconds of import, wanted for such a tag alone

    facts = {field: value for field, value in tag.facts.items() if field != "key"}
    expected = {"tag": tag.name, "commit": tag.commit, "title": tag.title, "facts": facts}
    told = verify_sealed(sealed.encode(), [key], where)
    if told != canonical_json(expected) or json.loads(sealed)["payloadType"] != TAG_PAYLOAD_TYPE:
        raise VerificationError(f"{where}: its signature was made for another tag, commit or message")
