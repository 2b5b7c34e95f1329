"""The log is append-only and signed: any changed, removed, inserted or re-ordered line is found and named."""

import base64
import json
import re
import subprocess
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tavr_lineage.trust.keyring import ADDED, BrokenChainError
from tavr_lineage.trust.keys import SigningKey, signing_key
from tavr_lineage.trust.log import BRANCH, PATH, _line, append, check_chain, parse_log, read_log
from tavr_records.errors import InputError
from tavr_records.ids import canonical_json

from .conftest import git
from .log_writer import make_keys

WHEN = "2026-01-01T00:00:00Z"
(KEY,) = make_keys(1)


def written(*, events: int = 4, key: SigningKey = KEY) -> bytes:
    data = _line(b"", ADDED, WHEN, {"public_key": key.public, "use": "log"}, key)
    for number in range(events - 1):
        data = _line(data, "promoted", WHEN, {"version": f"v0.0.{number}", "actor": "Zoë <z@x>"}, key)
    return data


def test_lines_chain_and_are_signed(checkout: Path) -> None:
    assert read_log(checkout) == []
    for number in range(3):
        append(checkout, "promoted", WHEN, {"version": f"v0.0.{number}"})
    entries = read_log(checkout)
    key = signing_key(checkout)
    assert [entry["seq"] for entry in entries] == [1, 2, 3, 4]
    assert entries[0]["previous"] == "0" * 64
    assert (entries[0]["event"], entries[0]["public_key"], entries[0]["use"]) == ("key added", key.public, "log")
    assert git(checkout, "rev-list", "--count", BRANCH) == "3"
    for entry in entries:
        assert entry["key"] == key.fingerprint
        unsigned = {name: value for name, value in entry.items() if name != "signature"}
        key.private.public_key().verify(base64.b64decode(entry["signature"]), canonical_json(unsigned))


LINES = written()


@given(st.integers(0, len(LINES) - 1), st.integers(1, 255))
@settings(max_examples=400, deadline=None)
def test_any_single_changed_byte_is_found_and_its_line_named(position: int, change: int) -> None:
    spoilt = bytearray(LINES)
    spoilt[position] ^= change
    line = LINES[:position].count(b"\n") + 1
    with pytest.raises(BrokenChainError, match=r"audit/log\.jsonl:\d+: ") as caught:
        check_chain(bytes(spoilt))
    # A change that still reads as an entry shows where the next line no longer follows, or by its signature.
    assert caught.value.line in (line, line + 1)


def test_every_byte_removed_or_doubled_is_found() -> None:
    for position in range(len(LINES)):
        for put in (b"", LINES[position : position + 1] * 2):
            with pytest.raises(BrokenChainError):
                check_chain(LINES[:position] + put + LINES[position + 1 :])


@pytest.mark.parametrize("attack", ["remove", "swap", "insert", "cut", "first"])
def test_moved_lines_are_found(attack: str) -> None:
    lines = LINES.splitlines(keepends=True)
    spoilt = {
        "remove": [lines[0], *lines[2:]],
        "swap": [lines[0], lines[2], lines[1], lines[3]],
        "insert": [lines[0], lines[0], *lines[1:]],
        "cut": [*lines[:3], lines[3][:-1]],
        "first": lines[1:],
    }[attack]
    with pytest.raises(BrokenChainError):
        check_chain(b"".join(spoilt))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"seq":1.0}', "does not follow"),
        (b"[1]", "not a log entry in canonical JSON"),
        (b"\xff", "not a log entry"),
        (b"[" * 100_000, "not a log entry"),
        (b'{"a":1e999}', "not a log entry"),
        (b'{"a":"\\ud800"}', "not a log entry"),
        (b"", "not a log entry"),
    ],
)
def test_lines_that_are_no_entries(line: bytes, message: str) -> None:
    with pytest.raises(BrokenChainError, match=rf"log\.jsonl:1: {message}"):
        parse_log(line + b"\n")


def test_a_line_of_a_stranger_and_one_without_signature(checkout: Path) -> None:
    (other,) = make_keys(1, seed=9)
    with pytest.raises(BrokenChainError, match=r"log\.jsonl:5: signed by SHA256:\S+, which no earlier line made a key"):
        check_chain(_line(LINES, "promoted", WHEN, {}, other))
    entry = json.loads(LINES.splitlines()[-1])
    entry |= {"seq": 5, "previous": parse_log(LINES).head}
    with pytest.raises(BrokenChainError, match=r"log\.jsonl:5: its signature does not fit"):
        check_chain(LINES + canonical_json(entry) + b"\n")
    del entry["signature"]
    with pytest.raises(BrokenChainError, match=r"log\.jsonl:5: its signature is no ed25519 signature"):
        check_chain(LINES + canonical_json(entry) + b"\n")


def test_a_broken_log_takes_no_line(checkout: Path) -> None:
    append(checkout, "promoted", WHEN, {"version": "v0.0.1"})
    blob = git(checkout, "show", f"{BRANCH}:{PATH}").replace("v0.0.1", "v0.0.2") + "\n"
    spoilt = subprocess.run(
        ["git", "hash-object", "-w", "--stdin"], cwd=checkout, input=blob, capture_output=True, text=True, check=True
    ).stdout.strip()
    inner = subprocess.run(
        ["git", "mktree"],
        cwd=checkout,
        input=f"100644 blob {spoilt}\tlog.jsonl\n",
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    tree = subprocess.run(
        ["git", "mktree"],
        cwd=checkout,
        input=f"040000 tree {inner}\taudit\n",
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    commit = git(checkout, "-c", "user.name=x", "-c", "user.email=x@x", "commit-tree", tree, "-m", "x")
    git(checkout, "update-ref", BRANCH, commit)
    with pytest.raises(BrokenChainError, match=r"log\.jsonl:2: its signature does not fit"):
        append(checkout, "promoted", WHEN, {})
    assert git(checkout, "rev-parse", BRANCH) == commit


def test_a_key_that_is_not_on_the_log_gets_a_remedy(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    append(checkout, "promoted", WHEN, {})
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "other")], check=True)
    monkeypatch.setenv("TAVR_SIGNING_KEY", str(tmp_path / "other"))
    with pytest.raises(InputError, match=re.escape(f"{tmp_path}/other: SHA256:")) as caught:
        append(checkout, "promoted", WHEN, {})
    assert "is not on the audit log; let a holder of an active key run `tavr keys add other.pub`" in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    assert len(read_log(checkout)) == 2


def test_a_clone_takes_the_remotes_log_before_it_writes(checkout: Path, tmp_path: Path) -> None:
    append(checkout, "promoted", WHEN, {})
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "--quiet", str(checkout), str(clone))
    with pytest.raises(InputError, match="take it with `git branch audit origin/audit`"):
        append(clone, "promoted", WHEN, {})
    git(clone, "branch", "audit", "origin/audit")
    assert len(read_log(clone)) == 2


def test_facts_cannot_stand_for_what_is_the_logs_own(checkout: Path) -> None:
    with pytest.raises(ValueError, match="facts signature are the log's own"):
        append(checkout, "approved", WHEN, {"signature": "mine"})


def test_two_writers_lose_no_line(checkout: Path) -> None:
    def write(name: str) -> None:
        for _ in range(3):
            append(checkout, "promoted", WHEN, {"by": name})

    threads = [threading.Thread(target=write, args=(name,)) for name in ("a", "b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    first, *entries = read_log(checkout)
    assert first["event"] == "key added"
    assert sorted(entry["by"] for entry in entries) == ["a", "a", "a", "b", "b", "b"]
