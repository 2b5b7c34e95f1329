"""Keys on the log: who may sign which line, for any history of adding, rotating and revoking."""

import json
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tavr_lineage.trust.custody import add_key, revoke_key, rotate_key
from tavr_lineage.trust.keyring import ADDED, REVOKED, ROTATED, BrokenChainError, describe_keys
from tavr_lineage.trust.keys import PublicKey, SigningKey, load_key, load_public, make_key, signing_key
from tavr_lineage.trust.log import _line, append, open_log, parse_log
from tavr_records.errors import InputError

from .log_writer import make_keys

WHEN = "2026-01-01T00:00:00Z"
KEYS = make_keys(6)


def test_writers_that_need_the_first_key_at_once_get_the_same_one(tmp_path: Path) -> None:
    for number in range(20):
        path = tmp_path / str(number) / "key"
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(make_key, [path] * 4))
        assert load_public(path.with_name("key.pub")).public == load_key(path).public
        assert sorted(file.name for file in path.parent.iterdir()) == ["key", "key.pub"]
        assert path.stat().st_mode & 0o777 == 0o600


class Told:
    """A log as a test writes it, and what a reader must make of it."""

    def __init__(self, first: SigningKey) -> None:
        self.data = _line(b"", ADDED, WHEN, {"public_key": first.public, "use": "log"}, first)

    def say(self, key: SigningKey, event: str = "promoted", **facts: object) -> "Told":
        self.data = _line(self.data, event, WHEN, facts, key)
        return self


def revoked(key: SigningKey, from_seq: int) -> dict[str, object]:
    return {"revoked": key.fingerprint, "reason": "lost laptop", "from_seq": from_seq}


def test_a_rotated_key_signs_no_more_and_its_old_lines_stay() -> None:
    a, b = KEYS[:2]
    log = Told(a).say(a).say(a, ROTATED, public_key=b.public, replaces=a.fingerprint).say(b)
    parsed = parse_log(log.data)
    assert parsed.keyring.untrusted == {}
    assert describe_keys(parsed.keyring) == [
        {
            "fingerprint": a.fingerprint,
            "public_key": a.public,
            "use": "log",
            "added_seq": 1,
            "revoked_from_seq": 4,
            "reason": "rotated",
        },
        {
            "fingerprint": b.fingerprint,
            "public_key": b.public,
            "use": "log",
            "added_seq": 3,
            "revoked_from_seq": None,
            "reason": "",
        },
    ]
    with pytest.raises(BrokenChainError, match=r"log\.jsonl:5: signed by SHA256:\S+, revoked from line 4"):
        parse_log(log.say(a).data)


def test_a_revocation_reaches_back_and_names_what_is_not_trusted() -> None:
    a, b, c = KEYS[:3]
    log = Told(a).say(a, ADDED, public_key=b.public, use="log").say(a)
    log.say(b).say(a, ADDED, public_key=c.public, use="log").say(c).say(b, REVOKED, **revoked(a, 3))
    parsed = parse_log(log.data)
    assert sorted(parsed.keyring.untrusted) == [3, 5, 6]
    assert parsed.keyring.untrusted[3] == f"signed by {a.fingerprint}, revoked from line 3: lost laptop"
    assert "added by line 5, which is not trusted" in parsed.keyring.untrusted[6]
    assert [entry["seq"] for entry in parsed.trusted()] == [1, 2, 4, 7]
    assert [key.fingerprint for key in parsed.keyring.active(8)] == [b.fingerprint]
    assert [key.fingerprint for key in parsed.keyring.believed()] == [b.fingerprint]
    for key in (a, c):
        with pytest.raises(BrokenChainError, match=r"log\.jsonl:8: signed by SHA256:\S+, revoked from line"):
            parse_log(Told.say(type("T", (), {"data": log.data})(), key).data)


@pytest.mark.parametrize(
    ("event", "facts", "message"),
    [
        (ADDED, {"public_key": KEYS[0].public, "use": "log"}, "was already added by line 1"),
        (ADDED, {"public_key": KEYS[1].public, "use": "all"}, "use of a key is 'all'"),
        (ADDED, {"public_key": "ssh-rsa AAAA", "use": "log"}, "public_key is 'ssh-rsa AAAA'"),
        (ADDED, {"public_key": KEYS[1].public + " comment", "use": "log"}, "without a comment"),
        (ADDED, {"use": "log"}, "not a complete entry"),
        (ROTATED, {"public_key": KEYS[1].public, "replaces": "SHA256:x"}, "replaces SHA256:x, which is not an active"),
        (REVOKED, revoked(KEYS[1], 1), "which is not a key of the log"),
        (REVOKED, revoked(KEYS[0], 4), "from_seq is 4; it lies between 1 and 3"),
        (REVOKED, revoked(KEYS[0], 0), "from_seq is 0"),
        (REVOKED, {**revoked(KEYS[0], 1), "from_seq": True}, "from_seq is True"),
        (REVOKED, revoked(KEYS[0], 2), "its signer SHA256:.* would itself be revoked from line 2"),
    ],
)
def test_key_lines_that_make_no_sense_are_refused(event: str, facts: dict[str, object], message: str) -> None:
    with pytest.raises(BrokenChainError, match=rf"log\.jsonl:2: .*{message}"):
        parse_log(Told(KEYS[0]).say(KEYS[0], event, **facts).data)


def test_the_first_line_adds_the_key_that_signs_it() -> None:
    a, b = KEYS[:2]
    for line in (
        _line(b"", "promoted", WHEN, {}, a),
        _line(b"", ADDED, WHEN, {"public_key": b.public, "use": "log"}, a),
        _line(b"", ADDED, WHEN, {"public_key": a.public, "use": "model"}, a),
    ):
        with pytest.raises(BrokenChainError, match=r"log\.jsonl:1: the first entry"):
            parse_log(line)


STEPS = st.lists(
    st.tuples(st.sampled_from(["say", "add", "rotate", "revoke"]), st.integers(0, 5), st.integers(0, 5), st.integers(1, 12)),
    max_size=14,
)  # fmt: skip


@given(STEPS)
@settings(max_examples=200, deadline=None)
def test_any_history_of_keys(steps: list[tuple[str, int, int, int]]) -> None:
    """Against a plain model: sets of active keys, and for each line who signed it."""
    log = Told(KEYS[0])
    active, known, signers = {0}, {0: (0, 1)}, [0]  # known: key -> (who added it, at which line)
    lost: dict[int, int] = {}
    for step, signer, other, back in steps:
        line = len(signers) + 1
        event, facts = "promoted", {}
        fine = signer in active
        doomed: dict[int, int] = {}
        if step == "add":
            event, facts = ADDED, {"public_key": KEYS[other].public, "use": "log"}
            fine = fine and other not in known
        elif step == "rotate":
            event, facts = ROTATED, {"public_key": KEYS[other].public, "replaces": KEYS[signer].fingerprint}
            fine = fine and other not in known
        elif step == "revoke":
            event, facts = REVOKED, revoked(KEYS[other], back)
            if other in known:
                doomed = {other: back}
                for key, (adder, at) in known.items():
                    if key not in doomed and adder in doomed and at >= doomed[adder]:
                        doomed[key] = at
            fine = fine and other in known and known[other][1] <= back <= line + 1
            fine = fine and not (signer in doomed and doomed[signer] <= line)
        tried = _line(log.data, event, WHEN, facts, KEYS[signer])
        if not fine:
            with pytest.raises(BrokenChainError, match=rf"log\.jsonl:{line}: "):
                parse_log(tried)
            continue
        log.data = tried
        signers.append(signer)
        if step in ("add", "rotate"):
            known[other] = (signer, line)
            active.add(other)
            if step == "rotate":
                active.discard(signer)
        for key, start in doomed.items():
            lost[key] = min(start, lost.get(key, start))
            active.discard(key)
    parsed = parse_log(log.data)
    assert {key.fingerprint for key in parsed.keyring.active(len(signers) + 1)} == {KEYS[n].fingerprint for n in active}
    untrusted = {n for n, who in enumerate(signers, start=1) if who in lost and n >= lost[who]}
    assert set(parsed.keyring.untrusted) == untrusted


def test_the_development_key_rotates_in_place(checkout: Path) -> None:
    with pytest.raises(InputError, match="the log is empty"):
        rotate_key(checkout, None)
    append(checkout, "promoted", WHEN, {})
    old = signing_key(checkout)
    entry, new = rotate_key(checkout, None)
    assert (entry["replaces"], entry["public_key"]) == (old.fingerprint, new.public)
    assert signing_key(checkout) != old
    assert signing_key(checkout).fingerprint == new.fingerprint
    assert load_public(new.path.with_name("dev_ed25519.pub")).fingerprint == new.fingerprint
    assert append(checkout, "promoted", WHEN, {})["key"] == new.fingerprint
    assert not list(new.path.parent.glob("*.next*"))


def test_an_interrupted_rotation_is_mended_by_rotating_again(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    append(checkout, "promoted", WHEN, {})

    def die(self: Path, target: Path) -> Path:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", die)
        with pytest.raises(KeyboardInterrupt):
            rotate_key(checkout, None)
    with pytest.raises(InputError, match="may sign no line from 4 on"):
        append(checkout, "promoted", WHEN, {})
    entry, new = rotate_key(checkout, None)
    assert entry["seq"] == 3
    assert append(checkout, "promoted", WHEN, {})["key"] == new.fingerprint


def test_keys_are_added_revoked_and_never_all_taken(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    append(checkout, "promoted", WHEN, {})
    ours = signing_key(checkout)
    with pytest.raises(InputError, match="the only active key"):
        revoke_key(checkout, ours.fingerprint, "gone", None)
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "spare")], check=True)
    spare = load_public(tmp_path / "spare.pub")
    assert add_key(checkout, spare, "log")["public_key"] == spare.public
    with pytest.raises(InputError, match="added by line 3 of the log already"):
        add_key(checkout, spare, "log")
    with pytest.raises(InputError, match=r"the log would refuse this: .* would itself be revoked"):
        revoke_key(checkout, ours.fingerprint, "stolen", 2)
    monkeypatch.setenv("TAVR_SIGNING_KEY", str(tmp_path / "spare"))
    with pytest.raises(InputError, match=r"the log would refuse this: .* would itself be revoked"):
        revoke_key(checkout, ours.fingerprint, "stolen", 3)  # our key put the spare on the log by line 3
    assert revoke_key(checkout, ours.fingerprint, "stolen\nlaptop", 4)["reason"] == "stolen laptop"
    assert [key.fingerprint for key in open_log(checkout).keyring.active(9)] == [spare.fingerprint]
    monkeypatch.delenv("TAVR_SIGNING_KEY")
    with pytest.raises(InputError, match=r"may sign no line from 4 on \(stolen laptop\)"):
        append(checkout, "promoted", WHEN, {})
    with pytest.raises(InputError, match="no such key on the log"):
        revoke_key(checkout, "SHA256:x", "gone", None)


def test_public_keys_are_read_in_both_forms(tmp_path: Path) -> None:
    key = PublicKey(KEYS[0].public)
    (tmp_path / "a.pub").write_text(f"{key.public} somebody@somewhere\n")
    (tmp_path / "a.pem").write_bytes(key.pem())
    assert load_public(tmp_path / "a.pub") == load_public(tmp_path / "a.pem") == key
    (tmp_path / "b.pub").write_text(json.dumps({}))
    with pytest.raises(InputError, match=r"b\.pub: no public key"):
        load_public(tmp_path / "b.pub")
