"""Taking turns in a bucket whose server does not enforce conditional writes: one lock object each, and only one alone.

A publisher writes an object of its own below `lock/` and lists the folder. Alone in it, it has the turn; otherwise it
takes its object away, waits a random moment and tries again. Two that come at once both see two, so neither goes ahead.
That holds where a listing shows every write that was acknowledged before (one rclone process, and today's S3).
A holder that was killed blocks the others until its object is `LEASE` old by the server's clock; a holder that stalls
for longer than that, between its last look at the clock and its write, is what this cannot exclude.
"""

import contextlib
import datetime as dt
import os
import random
import socket
import time
import uuid
from collections.abc import Callable, Generator
from contextlib import contextmanager

from tavr_records.errors import RefusedError
from tavr_records.ids import canonical_json

from tavr_lineage.clock import now
from tavr_lineage.publication.storage import Listed, Storage, delete_object, list_objects, read_object, write_object

LEASE = 600.0
PATIENCE = 60.0
_LONGEST_PAUSE = 0.5


@contextmanager
def turn(storage: Storage, artifact: str, patience: float = PATIENCE) -> Generator[Callable[[], None]]:
    """Hold the artifact's turn; call what is yielded right before each write that needs it.

    Raises:
        RefusedError: somebody else held it for `patience` seconds, or we held it for longer than is safe.
    """
    folder = f"{artifact}/lock/"
    own = f"{folder}{uuid.uuid4().hex}"
    started = _enter(storage, folder, own, patience)

    def still_ours() -> None:
        if time.monotonic() - started > LEASE / 2:
            raise RefusedError(f"{storage.url(own)}: held for too long to write safely; publish again")

    try:
        yield still_ours
    finally:
        delete_object(storage, own)


def _enter(storage: Storage, folder: str, own: str, patience: float) -> float:
    """Get in alone; returns the monotonic second just before our object was written."""
    deadline = time.monotonic() + patience
    told = canonical_json({"at": now(), "host": socket.gethostname(), "pid": os.getpid()})
    while True:
        started = time.monotonic()
        write_object(storage, own, told)
        others = _others(storage, folder, own)
        if not others:
            return started
        delete_object(storage, own)
        if time.monotonic() > deadline:
            holder = others[0]
            raise RefusedError(
                f"{storage.url(holder.path)}: another publication holds the turn ({_who(storage, holder)}); "
                "wait for it, or delete that object when its process has ended"
            )
        time.sleep(random.uniform(0, _LONGEST_PAUSE))


def _others(storage: Storage, folder: str, own: str) -> list[Listed]:
    """The other lock objects; those past their lease are taken away."""
    listed = list_objects(storage, folder)
    mine = next((entry for entry in listed if entry.path == own), None)
    if mine is None:  # a listing that does not show our own write proves nothing: count as not alone
        return listed or [Listed(own, 0, dt.datetime.now(dt.UTC))]
    live: list[Listed] = []
    for entry in listed:
        if entry.path == own:
            continue
        if (mine.modified - entry.modified).total_seconds() > LEASE:
            delete_object(storage, entry.path)
        else:
            live.append(entry)
    return live


def _who(storage: Storage, entry: Listed) -> str:
    with contextlib.suppress(UnicodeDecodeError):
        stored = read_object(storage, entry.path)
        return stored.data.decode("utf-8") if stored is not None else "it has just ended"
    return "unreadable"
