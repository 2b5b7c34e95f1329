"""Two processes that do the same thing at the same moment, many times: `python racers.py NAME FOLDER TRIALS KIND ROOT`.

Each trial has a prefix of its own in the bucket. Racers wait for each other at the start of every trial and write what
happened to `FOLDER/<name>.json`: "won", or the first words of the refusal.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

DEADLINE = 300.0


def race(folder: Path, kind: str, roots: dict[str, Path], trials: int) -> dict[str, list[str]]:
    """Run one racer for each name in `roots`; returns what happened to each, by trial."""
    folder.mkdir(parents=True)
    command = [sys.executable, str(Path(__file__))]
    racers = {
        name: subprocess.Popen([*command, name, str(folder), str(trials), kind, str(root)], stderr=subprocess.PIPE)
        for name, root in roots.items()
    }
    for name, racer in racers.items():
        _, errors = racer.communicate(timeout=DEADLINE)
        assert racer.returncode == 0, f"{name}: {errors.decode()}"
    return {name: json.loads((folder / f"{name}.json").read_text()) for name in roots}


def _main(name: str, folder: Path, trials: int, kind: str, root: Path) -> None:
    before = {"next": _base_pointer}.get(kind)
    actions: dict[str, Callable[[str, Path], None]] = {
        "pointer": _move_pointer,
        "next": _move_on,
        "claim": _claim,
        "publish": _publish,
        "promotions": _publish_assignment,
    }
    url = os.environ["TAVR_S3_URL"]
    outcomes: list[str] = []
    for trial in range(trials):
        os.environ["TAVR_S3_URL"] = f"{url}/{trial}"
        if before is not None:
            before()
        _meet(folder, name, trial)
        outcomes.append(_outcome(actions[kind], name, root))
    (folder / f"{name}.json").write_text(json.dumps(outcomes))


def _outcome(action: Callable[[str, Path], None], name: str, root: Path) -> str:
    from tavr_records.errors import RefusedError

    try:
        action(name, root)
    except RefusedError as error:
        return f"refused: {error}"
    return "won"


def _meet(folder: Path, name: str, trial: int) -> None:
    """Until both are here."""
    (folder / f"{name}.{trial}").touch()
    end = time.monotonic() + DEADLINE
    while len(list(folder.glob(f"*.{trial}"))) < 2:
        assert time.monotonic() < end, "the other racer did not come"
        time.sleep(0.001)


def _move_pointer(name: str, root: Path) -> None:
    from tavr_lineage.publication.pointers import Pointer, move_pointer
    from tavr_lineage.publication.server_probe import probe
    from tavr_lineage.publication.storage import need_storage

    storage = need_storage()
    wanted = Pointer("v0.0.1", name, "0" * 64, "tavr#dev#1", f"tag of {name}", 1, "", "")
    ours = {wanted.tag: wanted.tag_object}
    assert move_pointer(storage, probe(storage), "tavr", "dev", wanted, ours.get)


_BASE = ("v0.0.1", "b" * 40, "0" * 64, "tavr#dev#1", "the tag both know", 1, "", "")


def _base_pointer() -> None:
    """The pointer that both racers start from."""
    from tavr_lineage.publication.pointers import Pointer, move_pointer
    from tavr_lineage.publication.server_probe import probe
    from tavr_lineage.publication.storage import need_storage

    storage, pointer = need_storage(), Pointer(*_BASE)
    move_pointer(storage, probe(storage), "tavr", "dev", pointer, {pointer.tag: pointer.tag_object}.get)


def _move_on(name: str, root: Path) -> None:
    """From the pointer both know to the next, each to one of its own."""
    from tavr_lineage.publication.pointers import Pointer, move_pointer
    from tavr_lineage.publication.server_probe import probe
    from tavr_lineage.publication.storage import need_storage

    storage = need_storage()
    wanted = Pointer("v0.0.2", name, "0" * 64, "tavr#dev#2", f"tag of {name}", 2, "", "")
    ours = {wanted.tag: wanted.tag_object, _BASE[3]: _BASE[4]}
    assert move_pointer(storage, probe(storage), "tavr", "dev", wanted, ours.get)


def _claim(name: str, root: Path) -> None:
    from tavr_lineage.publication.pointers import claim_version
    from tavr_lineage.publication.server_probe import probe
    from tavr_lineage.publication.storage import need_storage

    storage = need_storage()
    claim_version(storage, probe(storage), "tavr", "v0.0.1", {"commit": name, "record_sha256": "0" * 64})


def _publish(name: str, root: Path) -> None:
    from tavr_lineage.publication.publish import publish_version

    publish_version(root, name.rsplit("-", maxsplit=1)[-1])


def _publish_assignment(name: str, root: Path) -> None:
    """Publish version n and its assignment n, as its promotion did."""
    from tavr_lineage.publication.publish import publish_to
    from tavr_lineage.publication.storage import need_storage

    _, stage, number = name.split("-")
    publish_to(need_storage(), root, f"tavr@v0.0.{number}", [f"tavr#{stage}#{number}"])


if __name__ == "__main__":
    _main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4], Path(sys.argv[5]))
