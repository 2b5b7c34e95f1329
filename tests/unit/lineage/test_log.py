"""The log is append-only: any changed, removed, inserted or re-ordered line breaks the chain and is named."""

import threading
from pathlib import Path

import pytest
from tavr_lineage.log import BRANCH, PATH, BrokenChainError, append, check_chain, read_log

from .conftest import git


def written(checkout: Path) -> bytes:
    for number in range(4):
        append(checkout, "promoted", "2026-01-01T00:00:00Z", {"version": f"v0.0.{number}"})
    return (git(checkout, "show", f"{BRANCH}:{PATH}") + "\n").encode()


def test_lines_chain(checkout: Path) -> None:
    assert read_log(checkout) == []
    entries = check_chain(written(checkout))
    assert [entry["seq"] for entry in entries] == [1, 2, 3, 4]
    assert entries[0]["previous"] == "0" * 64
    assert git(checkout, "rev-list", "--count", BRANCH) == "4"


def test_every_single_byte_counts(checkout: Path) -> None:
    data = written(checkout)
    for position in range(len(data)):
        spoilt = data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :]
        last = data.rstrip(b"\n").rfind(b"\n")
        if position > last and b'"seq"' in spoilt[last:]:
            continue  # the last line's content is pinned by whoever keeps the head, not by the chain
        with pytest.raises(BrokenChainError, match=r"log.jsonl"):
            check_chain(spoilt)


@pytest.mark.parametrize("attack", ["remove", "swap", "insert", "cut"])
def test_moved_lines_are_found(checkout: Path, attack: str) -> None:
    lines = written(checkout).splitlines(keepends=True)
    spoilt = {
        "remove": [lines[0], *lines[2:]],
        "swap": [lines[0], lines[2], lines[1], lines[3]],
        "insert": [lines[0], lines[0], *lines[1:]],
        "cut": [*lines[:3], lines[3][:-1]],
    }[attack]
    with pytest.raises(BrokenChainError):
        check_chain(b"".join(spoilt))


def test_two_writers_lose_no_line(checkout: Path) -> None:
    def write(name: str) -> None:
        for _ in range(3):
            append(checkout, "promoted", "2026-01-01T00:00:00Z", {"by": name})

    threads = [threading.Thread(target=write, args=(name,)) for name in ("a", "b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(entry["by"] for entry in read_log(checkout)) == ["a", "a", "a", "b", "b", "b"]
