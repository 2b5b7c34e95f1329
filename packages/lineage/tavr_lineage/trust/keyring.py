"""Whose word the log takes: the keys that its own entries add, rotate and revoke, and the lines each may sign.

The first entry adds the key that signs it; from then on an entry counts only if its key is active at its line. A
revocation may reach back (`from_seq`): lines the key signed from there on stay in the log and are named as not trusted,
and so are the keys they added. What such lines took away (a key they revoked) stays taken away.
"""

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_ssh_public_key
from tavr_records.errors import VerificationError
from tavr_records.ids import canonical_json

from tavr_lineage.trust.keys import PublicKey, fingerprint

PATH = "audit/log.jsonl"
USES = ("log", "model")
ADDED, ROTATED, REVOKED = "key added", "key rotated", "key revoked"
_ROTATED = "rotated"


class BrokenChainError(VerificationError):
    """A line of the log does not follow from the ones before it, or its signature does not count; the message says."""

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(f"{PATH}:{line}: {reason}")
        self.line = line


@dataclass(frozen=True)
class LoggedKey(PublicKey):
    """A key on the log.

    Attributes:
        use: `log` (entries, tags, attestations, checkpoints) or `model` (OpenSSF model signatures).
        added_seq: the line that added it.
        revoked_from_seq: the first line it may not sign; None while it is active.
        reason: why it was revoked; `rotated` for a key that another one replaced.
        compromised: whether its revocation was more than a rotation.
    """

    use: str
    added_seq: int
    revoked_from_seq: int | None = None
    reason: str = ""
    compromised: bool = False

    def active_at(self, seq: int) -> bool:
        """Whether a line of this number may carry its signature."""
        return self.added_seq <= seq and (self.revoked_from_seq is None or seq < self.revoked_from_seq)


@dataclass(frozen=True)
class Keyring:
    """Every key a log ever named, oldest first, and the lines (number -> reason) whose signature lost its worth."""

    keys: tuple[LoggedKey, ...] = ()
    untrusted: Mapping[int, str] = field(default_factory=dict[int, str])

    def find(self, key_fingerprint: str) -> LoggedKey | None:
        """The key of a fingerprint."""
        return next((key for key in self.keys if key.fingerprint == key_fingerprint), None)

    def active(self, seq: int, use: str = "log") -> tuple[LoggedKey, ...]:
        """The keys that may sign at a line."""
        return tuple(key for key in self.keys if key.use == use and key.active_at(seq))

    def believed(self, use: str = "log") -> tuple[LoggedKey, ...]:
        """The keys whose undated signatures (tags, attestations, models) still count: all but compromised ones."""
        return tuple(key for key in self.keys if key.use == use and not key.compromised)


def describe_keys(keyring: Keyring) -> list[dict[str, Any]]:
    """The keys with their validity, as `keys.json` of the evidence holds them."""
    names = ("fingerprint", "use", "added_seq", "revoked_from_seq", "reason")
    return [{"public_key": key.public, **{name: getattr(key, name) for name in names}} for key in keyring.keys]


def replay_keys(entries: Sequence[Mapping[str, Any]]) -> Keyring:
    """Check every entry's signature against the keys its predecessors made active.

    Raises:
        BrokenChainError: an entry whose signature or key does not count; it names the line and the reason.
    """
    state = _State()
    for number, entry in enumerate(entries, start=1):
        state.take(number, entry)
    return Keyring(tuple(state.keys.values()), dict(sorted(state.untrusted.items())))


def verify_entry(entry: Mapping[str, Any], public: str) -> None:
    """Check an entry's signature.

    Raises:
        ValueError: it was not made by this key for exactly this entry.
    """
    told = entry.get("signature")
    unsigned = {name: value for name, value in entry.items() if name != "signature"}
    try:
        signature = base64.b64decode(str(told), validate=True)
        key = load_ssh_public_key(public.encode("ascii"))
        if base64.b64encode(signature).decode("ascii") != told or not isinstance(key, Ed25519PublicKey):
            raise ValueError("its signature is no ed25519 signature in base64")
        key.verify(signature, canonical_json(unsigned))
    except InvalidSignature as error:
        raise ValueError(f"its signature does not fit what it says and {fingerprint(public)}") from error
    except binascii.Error as error:
        raise ValueError("its signature is no ed25519 signature in base64") from error


class _State:
    """The keys after some lines of a log."""

    def __init__(self) -> None:
        self.keys: dict[str, LoggedKey] = {}
        self.untrusted: dict[int, str] = {}
        self.signers: list[str] = []

    def take(self, line: int, entry: Mapping[str, Any]) -> None:
        """Check one more entry and follow what it says of keys."""
        try:
            signer = self._signer(line, entry)
            verify_entry(entry, signer.public)
            self.signers.append(signer.fingerprint)
            if entry["event"] == ADDED:
                self._add(entry["public_key"], entry["use"], line)
            elif entry["event"] == ROTATED:
                self._rotate(entry["public_key"], entry["replaces"], line)
            elif entry["event"] == REVOKED:
                self._revoke(entry, line)
        except (KeyError, TypeError) as error:
            raise BrokenChainError(line, f"not a complete entry ({error!r})") from error
        except ValueError as error:
            raise BrokenChainError(line, str(error)) from error

    def _signer(self, line: int, entry: Mapping[str, Any]) -> PublicKey:
        if line == 1:
            if entry["event"] != ADDED or entry["use"] != "log":
                raise ValueError("the first entry must add the log's first key")
            first = PublicKey(_clean(entry["public_key"], "log"))
            if entry["key"] != first.fingerprint:
                raise ValueError(f"the first entry adds {first.fingerprint} and is signed by {entry['key']}")
            return first
        known = self.keys.get(entry["key"])
        if known is None or known.use != "log":
            raise ValueError(f"signed by {entry['key']}, which no earlier line made a key of the log")
        if not known.active_at(line):
            raise ValueError(f"signed by {known.fingerprint}, revoked from line {known.revoked_from_seq}")
        return known

    def _add(self, public: object, use: object, line: int) -> None:
        if use not in USES:
            raise ValueError(f"use of a key is {use!r}; it is one of {', '.join(USES)}")
        key = LoggedKey(_clean(public, str(use)), str(use), line)
        if key.fingerprint in self.keys:
            raise ValueError(f"{key.fingerprint} was already added by line {self.keys[key.fingerprint].added_seq}")
        self.keys[key.fingerprint] = key

    def _rotate(self, public: object, replaces: str, line: int) -> None:
        old = self.keys.get(replaces)
        if old is None or not old.active_at(line):
            raise ValueError(f"replaces {replaces}, which is not an active key")
        self._add(public, old.use, line)
        self.keys[replaces] = replace(old, revoked_from_seq=line + 1, reason=_ROTATED)

    def _revoke(self, entry: Mapping[str, Any], line: int) -> None:
        revoked, start = self.keys.get(entry["revoked"]), entry["from_seq"]
        if revoked is None:
            raise ValueError(f"revokes {entry['revoked']}, which is not a key of the log")
        if type(start) is not int or not revoked.added_seq <= start <= line + 1:
            raise ValueError(f"from_seq is {start!r}; it lies between {revoked.added_seq} and {line + 1}")
        doomed = self._doomed(revoked.fingerprint, start, str(entry["reason"]))
        if (own := doomed.get(self.signers[-1])) is not None and own[0] <= line:
            raise ValueError(f"its signer {self.signers[-1]} would itself be revoked from line {own[0]}")
        for name, (first, reason) in doomed.items():
            known = self.keys[name]
            earlier = first if known.revoked_from_seq is None else min(first, known.revoked_from_seq)
            self.keys[name] = replace(known, revoked_from_seq=earlier, reason=reason, compromised=True)
            for number, signer in enumerate(self.signers, start=1):
                if signer == name and number >= first:
                    self.untrusted[number] = f"signed by {name}, revoked from line {first}: {reason}"

    def _doomed(self, revoked: str, start: int, reason: str) -> dict[str, tuple[int, str]]:
        """The revoked key and every key that it, or one it added, put on the log from `start` on."""
        doomed = {revoked: (start, reason)}
        for key in self.keys.values():  # in the order of their lines, so that one pass follows every branch
            adder = doomed.get(self.signers[key.added_seq - 1])
            if key.fingerprint not in doomed and adder is not None and key.added_seq >= adder[0]:
                doomed[key.fingerprint] = (key.added_seq, f"added by line {key.added_seq}, which is not trusted")
        return doomed


def _clean(public: object, use: str) -> str:
    """A public key line that OpenSSH reads, without a comment; a key of the log is ed25519."""
    words = str(public).split(" ")
    if len(words) != 2 or (use == "log" and words[0] != "ssh-ed25519"):
        raise ValueError(f"public_key is {str(public)[:40]!r}; give it as `ssh-ed25519 <base64>` without a comment")
    try:
        load_ssh_public_key(str(public).encode("ascii"))
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ValueError(f"public_key is no OpenSSH public key ({error})") from error
    return str(public)
