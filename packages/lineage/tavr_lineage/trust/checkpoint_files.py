"""Checkpoints as files: made here, signed by a witness elsewhere, and written to the log for the gate to see.

A time stamp token lies beside its checkpoint: `checkpoint.tsr` of `checkpoint.json`.
"""

from pathlib import Path
from typing import Any

from tavr_records.atomic import write_bytes
from tavr_records.errors import InputError

from tavr_lineage.clock import now
from tavr_lineage.git import repository_root
from tavr_lineage.policy import POLICY, read_policy
from tavr_lineage.trust.allowed_signers import WITNESSES, read_signers
from tavr_lineage.trust.checkpoint import (
    EVENT,
    Checkpoint,
    add_witness,
    checkpoint_facts,
    checkpoint_payload,
    make_checkpoint,
    verify_checkpoint,
)
from tavr_lineage.trust.keys import load_key, signing_key
from tavr_lineage.trust.log import Log, append, check_signer, open_log
from tavr_lineage.trust.timestamp import ask_timestamp, read_roots


def take_checkpoint(root: Path, out: Path, timestamp_url: str | None = None) -> Checkpoint:
    """Sign the log's head into a file, with a time stamp beside it if an authority is named.

    Raises:
        InputError: there is no log yet, our key may not sign it, or the authority gives no stamp.
    """
    root = repository_root(root)
    log, key = _open_log(root), signing_key(root)
    check_signer(log, key)
    data = make_checkpoint(log, _origin(root), now(), key)
    token = None if timestamp_url is None else ask_timestamp(checkpoint_payload(data), timestamp_url)
    write_bytes(out, data)
    if token is not None:
        write_bytes(token_path(out), token)
    return verify_checkpoint(log.data, data, _origin(root))


def witness_checkpoint(root: Path, file: Path, key: Path) -> Checkpoint:
    """Add a witness's signature to a checkpoint file, after holding it against the log as this clone has it.

    Raises:
        InputError: no such file or key, or this clone has no log.
        VerificationError: the log here is not the one it pins; nothing is signed.
    """
    root = repository_root(root)
    log, data = _open_log(root), read_checkpoint(file)
    verify_checkpoint(log.data, data, _origin(root))
    signed = add_witness(data, load_key(key))
    checkpoint = verify_checkpoint(log.data, signed, _origin(root), read_signers(root, WITNESSES))
    write_bytes(file, signed)
    return checkpoint


def log_checkpoint(root: Path, file: Path) -> dict[str, Any]:
    """Write a checkpoint with its witnesses and time stamp to the log, where the gate sees it; returns the entry.

    Raises:
        InputError: no such file.
        VerificationError: it does not hold, or nobody but ourselves vouches for it.
    """
    root = repository_root(root)
    log, data = _open_log(root), read_checkpoint(file)
    token = token_path(file).read_bytes() if token_path(file).is_file() else None
    checkpoint = verify_checkpoint(
        log.data, data, _origin(root), read_signers(root, WITNESSES), token, read_roots(root)
    )
    if not checkpoint.witnesses and checkpoint.stamped_at is None:
        raise InputError(
            f"{file}: no witness of {WITNESSES} signed it and no time stamp lies beside it; nothing to log"
        )
    return append(root, EVENT, now(), checkpoint_facts(checkpoint, data, token))


def read_checkpoint(file: Path) -> bytes:
    """The bytes of a checkpoint file.

    Raises:
        InputError: no such file.
    """
    if not file.is_file():
        raise InputError(f"{file}: no such file; make a checkpoint with `tavr checkpoint -o {file}`")
    return file.read_bytes()


def token_path(file: Path) -> Path:
    """Where a checkpoint's time stamp token lies."""
    return file.with_suffix(".tsr")


def _origin(root: Path) -> str:
    return read_policy(root / POLICY).artifact


def _open_log(root: Path) -> Log:
    log = open_log(root)
    if not log.entries:
        raise InputError("the audit log is empty here; promote something first, or fetch the branch `audit`")
    return log
