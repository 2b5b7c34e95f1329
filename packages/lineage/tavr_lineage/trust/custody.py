"""Keys come and go: who may sign the log from here on, written on the log itself."""

import os
from pathlib import Path
from typing import Any

from tavr_records.errors import InputError, VerificationError

from tavr_lineage.clock import now
from tavr_lineage.trust.keyring import ADDED, REVOKED, ROTATED
from tavr_lineage.trust.keys import VARIABLE, PublicKey, SigningKey, development_key, load_key, make_key, signing_key
from tavr_lineage.trust.log import append, check_signer, open_log
from tavr_lineage.trust.model_signature import ModelKey


def add_key(root: Path, key: PublicKey, use: str) -> dict[str, Any]:
    """Let one more key count; returns the entry.

    Raises:
        InputError: it is on the log already, is of a type this use does not take, or ours may not sign.
    """
    if (known := open_log(root).keyring.find(key.fingerprint)) is not None:
        raise InputError(f"{key.fingerprint}: added by line {known.added_seq} of the log already; make a fresh key")
    if use == "log" and not key.public.startswith("ssh-ed25519 "):
        raise InputError(f"{key.fingerprint}: a key of the log is ssh-ed25519, this is {key.public.split(' ')[0]}")
    return append(root, ADDED, now(), {"public_key": key.public, "use": use})


def announce_model_key(root: Path, key: ModelKey) -> None:
    """Put the model key on the log unless it is there.

    A log that takes no line from us is no reason to lose a finished training: the gate will say so.
    """
    try:
        if open_log(root).keyring.find(key.public.fingerprint) is None:
            append(root, ADDED, now(), {"public_key": key.public.public, "use": "model"})
    except (InputError, VerificationError):
        return


def rotate_key(root: Path, successor: Path | None) -> tuple[dict[str, Any], SigningKey]:
    """Replace this process's key by another; returns the entry and the new key.

    The development key's successor is made here and takes its file; the old private half is deleted. An interruption
    between the two is mended by rotating again.

    Args:
        root: any checkout of the repository.
        successor: private key file of the new key; needed exactly when `TAVR_SIGNING_KEY` names the old one.

    Raises:
        InputError: the wrong one of the two cases, or our key may not sign.
    """
    named = VARIABLE in os.environ
    if named != (successor is not None):
        told = f"{VARIABLE} names the key: give its successor" if named else f"only a key of {VARIABLE} has a successor"
        raise InputError(f"--to: {told}; the development key's is made by itself")
    old, log = signing_key(root), open_log(root)
    path = successor or development_key(root).with_name("dev_ed25519.next")
    if successor is None and not path.exists():
        check_signer(log, old)
        make_key(path)
    new = load_key(path)
    entry = next((one for one in log.entries if one["event"] == ROTATED and one["public_key"] == new.public), None)
    if entry is None:
        if not log.entries:
            raise InputError("the log is empty: nothing is signed by the old key yet; there is nothing to rotate")
        entry = append(root, ROTATED, now(), {"public_key": new.public, "replaces": old.fingerprint})
    if successor is None:
        path.replace(old.path)
        path.with_name(path.name + ".pub").replace(old.path.with_name(old.path.name + ".pub"))
        new = load_key(old.path)
    return entry, new


def revoke_key(root: Path, fingerprint: str, reason: str, from_seq: int | None) -> dict[str, Any]:
    """Take the trust from a key, from a line of the log on (None: from the next one); returns the entry.

    Raises:
        InputError: no such key, a line that cannot be, nobody could sign the log afterwards, or it would take the
            trust from the key that signs it.
    """
    log = open_log(root)
    known, following = log.keyring.find(fingerprint), len(log.entries) + 1
    if known is None:
        raise InputError(f"{fingerprint}: no such key on the log; `tavr keys list` shows them")
    if known.use == "log" and [key.fingerprint for key in log.keyring.active(following + 1)] == [fingerprint]:
        raise InputError(f"{fingerprint}: the only active key; put another on the log first with `tavr keys add`")
    start = following + 1 if from_seq is None else from_seq
    facts = {"revoked": fingerprint, "reason": " ".join(reason.split()), "from_seq": start}
    return append(root, REVOKED, now(), facts)
