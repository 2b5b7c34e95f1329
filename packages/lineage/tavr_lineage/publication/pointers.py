"""Who won: the claim of a version and the pointer of a stage, the only objects that two publications may fight over.

Git decides which version holds a stage (its tag's counter); the pointer follows. It moves forward only, from an
assignment that our own registry knows to a later one, and each move expects the pointer it was judged on.
"""

import json
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, cast

from tavr_records.errors import RefusedError, VerificationError
from tavr_records.ids import canonical_json

from tavr_lineage.clock import now
from tavr_lineage.publication.server_probe import Server
from tavr_lineage.publication.storage import ConflictError, Storage, Stored, list_objects, read_object, write_object
from tavr_lineage.publication.turns import turn

_ATTEMPTS = 10


@dataclass(frozen=True)
class Pointer:
    """`<artifact>/stages/<stage>.json`.

    Attributes:
        version: label of the version that holds the stage.
        commit: its commit.
        record_sha256: of its record.
        tag: the assignment, such as `tavr#dev#7`.
        tag_object: that tag as git stores it, with its signature.
        counter: the assignment's number; only a higher one replaces it.
        published_at: when the pointer was moved.
        previous: tag of the assignment that this one replaced; "" for the first.
    """

    version: str
    commit: str
    record_sha256: str
    tag: str
    tag_object: str
    counter: int
    published_at: str
    previous: str


def stage_path(artifact: str, stage: str) -> str:
    """Where a stage's pointer lies."""
    return f"{artifact}/stages/{stage}.json"


def claim_path(artifact: str, version: str) -> str:
    """Where a version's claim lies."""
    return f"{artifact}/claims/{version}.json"


def list_stages(storage: Storage, artifact: str) -> list[str]:
    """The stages that have a pointer."""
    folder = stage_path(artifact, "").removesuffix(".json")
    return [listed.path.removeprefix(folder).removesuffix(".json") for listed in list_objects(storage, folder)]


def read_pointer(storage: Storage, artifact: str, stage: str) -> Pointer | None:
    """A stage's pointer, None when nothing was published for it.

    Raises:
        VerificationError: it is there and is no pointer.
    """
    stored = read_object(storage, stage_path(artifact, stage))
    return parse_pointer(stored.data, storage.url(stage_path(artifact, stage))) if stored is not None else None


def parse_pointer(data: bytes, where: str) -> Pointer:
    """Read a pointer, strictly.

    Raises:
        VerificationError: not a pointer in canonical JSON.
    """
    try:
        document = cast("dict[str, Any]", json.loads(data))
        pointer = Pointer(**document)
        types = {name: type(value) for name, value in document.items()}
    except (ValueError, TypeError) as error:
        raise VerificationError(f"{where}: not a pointer ({error}); publish the stage again") from error
    if types != {name: int if name == "counter" else str for name in types} or canonical_json(document) != data:
        raise VerificationError(f"{where}: not a pointer (a field of another type, or not canonical JSON)")
    return pointer


@contextmanager
def alone(storage: Storage, server: Server, artifact: str) -> Generator[Callable[[], None]]:
    """The turn where the server's word is not enough; nothing where it is."""
    if server.conditional_writes:
        yield lambda: None
    else:
        with turn(storage, artifact) as still_ours:
            yield still_ours


def claim_version(storage: Storage, server: Server, artifact: str, version: str, facts: Mapping[str, str]) -> None:
    """Take a version for one commit before any of its files is sent; taking it again for the same is no error.

    Args:
        storage: where.
        server: what it holds to.
        artifact: the model's name.
        version: its label.
        facts: what the version is: `commit` and `record_sha256`.

    Raises:
        RefusedError: the version is another commit's, or was removed.
    """
    path = claim_path(artifact, version)
    with alone(storage, server, artifact) as still_ours:
        stored = read_object(storage, path)
        if stored is None:
            still_ours()
            try:
                write_object(storage, path, canonical_json(dict(facts)), server.expected(None))
            except ConflictError:
                stored = read_object(storage, path)
    if stored is not None:
        _check_claim(storage.url(path), version, stored, facts)


def _check_claim(where: str, version: str, stored: Stored, facts: Mapping[str, str]) -> None:
    try:
        claimed = cast("dict[str, str]", json.loads(stored.data))
        removed, commit = claimed.get("removed_at"), claimed["commit"]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise VerificationError(f"{where}: not a claim ({error!r}); somebody changed it") from error
    if removed is not None:
        raise RefusedError(f"{where}: {version} was removed on {removed}; retrain and promote a new version")
    if claimed != dict(facts):
        raise RefusedError(
            f"{where}: {version} is already published, for commit {commit[:12]}, not {facts['commit'][:12]}: another "
            "checkout was faster; `git fetch --tags` its registry and promote again"
        )


def move_pointer(  # noqa: PLR0913 - where, what and by whose word
    storage: Storage, server: Server, artifact: str, stage: str, wanted: Pointer, known: Callable[[str], str | None]
) -> bool:
    """Let the stage's pointer follow an assignment; False when it already does.

    Args:
        storage: where.
        server: what it holds to.
        artifact: the model's name.
        stage: whose pointer.
        wanted: the pointer to write; `previous` and `published_at` are filled in.
        known: the tag object our registry has under a name; None when it has none.

    Raises:
        RefusedError: a later assignment is published, or one that our registry does not know.
    """
    path = stage_path(artifact, stage)
    for _ in range(_ATTEMPTS):
        with alone(storage, server, artifact) as still_ours:
            stored = read_object(storage, path)
            before = parse_pointer(stored.data, storage.url(path)) if stored is not None else None
            if before is not None and not _may_follow(storage.url(path), before, wanted, known):
                return False
            still_ours()
            told = {**asdict(wanted), "published_at": now(), "previous": before.tag if before is not None else ""}
            expect = server.expected(stored.etag if stored is not None else None)
            try:
                write_object(storage, path, canonical_json(told), expect)
            except (ConflictError, FileNotFoundError):
                continue  # somebody moved it after we looked: judge the new one
            return True
    raise RefusedError(f"{storage.url(path)}: moved {_ATTEMPTS} times while we looked; publish again")


def _may_follow(where: str, before: Pointer, wanted: Pointer, known: Callable[[str], str | None]) -> bool:
    """Whether `wanted` comes after what is published; False when it is what is published."""
    if before.tag == wanted.tag and before.tag_object == wanted.tag_object:
        return False
    if known(before.tag) != before.tag_object:
        raise RefusedError(
            f"{where}: {before.version} ({before.tag}) of another checkout was published first; "
            "`git fetch --tags` its registry and promote again"
        )
    if before.counter > wanted.counter:
        raise RefusedError(f"{where}: {before.version} holds the stage since {before.tag}, after {wanted.tag}")
    return True
