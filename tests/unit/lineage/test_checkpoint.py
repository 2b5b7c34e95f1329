"""Checkpoints: whoever kept one can tell that nothing before it changed, also against the holder of the keys."""

import base64
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tavr_lineage.trust.allowed_signers import WITNESSES, AllowedSigner, parse_signers
from tavr_lineage.trust.checkpoint import (
    PAYLOAD_TYPE,
    add_witness,
    checkpoint_payload,
    make_checkpoint,
    verify_checkpoint,
)
from tavr_lineage.trust.checkpoint_files import log_checkpoint, take_checkpoint, token_path, witness_checkpoint
from tavr_lineage.trust.keyring import ADDED, REVOKED, ROTATED
from tavr_lineage.trust.keys import PublicKey, SigningKey, make_key, signing_key
from tavr_lineage.trust.log import _line, append, open_log, parse_log
from tavr_lineage.trust.timestamp import ROOTS, ask_timestamp, parse_roots, verify_timestamp
from tavr_records.errors import InputError, VerificationError

from .conftest import git
from .log_writer import make_keys
from .time_stamp_authority import make_authority, serving

WHEN = "2026-01-01T00:00:00Z"
OURS, NEXT, WITNESS, STRANGER = make_keys(4, seed=3)
NAMED = [AllowedSigner(("wanda@example.org",), PublicKey(WITNESS.public), ("tavr-checkpoint",))]


def grown(lines: int, key: SigningKey = OURS, word: str = "v") -> bytes:
    data = _line(b"", ADDED, WHEN, {"public_key": key.public, "use": "log"}, key)
    for number in range(lines - 1):
        data = _line(data, "promoted", WHEN, {"version": f"{word}{number}"}, key)
    return data


def pinned(data: bytes, key: SigningKey = OURS) -> bytes:
    return make_checkpoint(parse_log(data), "tavr", WHEN, key)


def test_the_form_is_the_agreed_one() -> None:
    data = grown(3)
    envelope = json.loads(pinned(data))
    assert envelope["payloadType"] == PAYLOAD_TYPE == "application/vnd.tavr.checkpoint+json"
    assert json.loads(base64.b64decode(envelope["payload"])) == {
        "origin": "tavr", "size": 3, "head": parse_log(data).head, "at": WHEN,
    }  # fmt: skip
    assert [one["keyid"] for one in envelope["signatures"]] == [OURS.fingerprint]


def test_a_log_that_grew_still_holds_it() -> None:
    data = grown(3)
    checkpoint = pinned(data)
    more = _line(data, ROTATED, WHEN, {"public_key": NEXT.public, "replaces": OURS.fingerprint}, OURS)
    found = verify_checkpoint(_line(more, "promoted", WHEN, {}, NEXT), checkpoint, "tavr")
    assert (found.head.size, found.signer, found.witnesses, found.stamped_at) == (3, OURS.fingerprint, (), None)


@given(st.integers(2, 6), st.integers(0, 3), st.data())
@settings(max_examples=60, deadline=None)
def test_the_key_holder_cannot_rewrite_what_is_pinned(size: int, more: int, data: st.DataObject) -> None:
    """A log rewritten from any line on, with good signatures, is one the checkpoint does not fit."""
    checkpoint = pinned(grown(size))
    start = data.draw(st.integers(1, size - 1))
    kept = b"".join(line + b"\n" for line in grown(size).split(b"\n")[:start])
    for number in range(size - start + more):
        kept = _line(kept, "promoted", WHEN, {"version": f"other {number}"}, OURS)
    parse_log(kept)  # the log alone shows nothing
    with pytest.raises(VerificationError, match=rf"line {size} is not the one it pins; the log was rewritten"):
        verify_checkpoint(kept, checkpoint, "tavr")


def test_cut_and_replaced_logs_and_other_origins() -> None:
    checkpoint = pinned(grown(4))
    with pytest.raises(VerificationError, match="the log has 3 lines, it had 4; lines are gone"):
        verify_checkpoint(grown(3), checkpoint, "tavr")
    with pytest.raises(VerificationError, match="the log was rewritten"):
        verify_checkpoint(grown(5, key=NEXT), checkpoint, "tavr")
    with pytest.raises(VerificationError, match="of the log of 'tavr', not of 'other'"):
        verify_checkpoint(grown(4), checkpoint, "other")


def test_who_may_sign_it() -> None:
    data = grown(3)
    with pytest.raises(VerificationError, match="not signed by a key that was active at line 3"):
        verify_checkpoint(data, pinned(data, STRANGER), "tavr")
    late = _line(data, ADDED, WHEN, {"public_key": NEXT.public, "use": "log"}, OURS)
    with pytest.raises(VerificationError, match="not signed by a key that was active at line 3"):
        verify_checkpoint(late, pinned(data, NEXT), "tavr")
    lost = _line(late, REVOKED, WHEN, {"revoked": NEXT.fingerprint, "reason": "lost", "from_seq": 4}, OURS)
    with pytest.raises(VerificationError, match="not signed by a key that was active at line 4"):
        verify_checkpoint(lost, pinned(late, NEXT), "tavr")


def test_witnesses_are_those_that_are_named() -> None:
    data = grown(3)
    checkpoint = add_witness(add_witness(pinned(data), WITNESS), STRANGER)
    assert verify_checkpoint(data, checkpoint, "tavr").witnesses == ()
    assert verify_checkpoint(data, checkpoint, "tavr", NAMED).witnesses == ("wanda@example.org",)
    ourselves = [AllowedSigner(("us@example.org",), PublicKey(OURS.public))]
    assert verify_checkpoint(data, checkpoint, "tavr", ourselves).witnesses == (), "the log's own key is no witness"
    other_purpose = [AllowedSigner(("wanda@example.org",), PublicKey(WITNESS.public), ("tavr-approval",))]
    assert verify_checkpoint(data, checkpoint, "tavr", other_purpose).witnesses == ()


@given(st.integers(0, 10_000), st.integers(1, 255))
@settings(max_examples=150, deadline=None)
def test_no_changed_checkpoint_pins_anything_else(position: int, change: int) -> None:
    """Whatever bytes of it are changed: it is refused, or it still says the same under the same signature."""
    data = grown(3)
    spoilt = bytearray(pinned(data))
    spoilt[position % len(spoilt)] ^= change
    try:
        found = verify_checkpoint(data, bytes(spoilt), "tavr")
    except VerificationError:
        return
    assert (found.head.size, found.head.head, found.signer) == (3, parse_log(data).head, OURS.fingerprint)


def test_a_time_stamp_says_when(tmp_path: Path) -> None:
    data = grown(2)
    payload = checkpoint_payload(pinned(data))
    root = make_authority(tmp_path / "tsa")
    other = make_authority(tmp_path / "other")
    with serving(tmp_path / "tsa") as url:
        token = ask_timestamp(payload, url)
    roots = parse_roots(root.read_bytes(), "roots")
    stamped = verify_timestamp(payload, token, roots)
    found = verify_checkpoint(data, pinned(data), "tavr", token=token, roots=roots)
    assert found.stamped_at == stamped.strftime("%Y-%m-%dT%H:%M:%SZ")
    with pytest.raises(VerificationError, match="time stamp: "):
        verify_timestamp(payload + b" ", token, roots)
    with pytest.raises(VerificationError, match="time stamp: "):
        verify_timestamp(payload, token, parse_roots(other.read_bytes(), "roots"))
    with pytest.raises(VerificationError, match="no certificate to trust"):
        verify_timestamp(payload, token, [])
    with pytest.raises(VerificationError, match="time stamp: "):
        verify_timestamp(payload, token[:-40] + bytes(40), roots)
    with pytest.raises(InputError, match=r"--timestamp http://127.0.0.1.*no time stamp"):
        ask_timestamp(payload, url)  # nobody answers any more
    with pytest.raises(InputError, match="give the http"):
        ask_timestamp(payload, f"file://{root}")
    with pytest.raises(InputError, match="roots: no PEM certificates"):
        parse_roots(b"-----BEGIN nothing", "roots")


def test_from_the_file_through_the_witness_to_the_log(checkout: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the audit log is empty here"):
        take_checkpoint(checkout, tmp_path / "c.json")
    append(checkout, "promoted", WHEN, {"target": "dev"})
    file = tmp_path / "c.json"
    assert take_checkpoint(checkout, file).head.size == 2
    with pytest.raises(InputError, match="nothing to log"):
        log_checkpoint(checkout, file)
    make_key(tmp_path / "wanda")
    line = (tmp_path / "wanda.pub").read_text().rsplit(" ", 3)[0]
    (checkout / WITNESSES).write_text(f'wanda@example.org namespaces="tavr-checkpoint" {line}\n')
    (checkout / ROOTS).write_bytes(make_authority(tmp_path / "tsa").read_bytes())
    git(checkout, "add", "-A")
    git(checkout, "-c", "user.name=x", "-c", "user.email=x@x", "commit", "--quiet", "-m", "witness")
    with serving(tmp_path / "tsa") as url:
        take_checkpoint(checkout, file, url)
    assert token_path(file).is_file()
    assert witness_checkpoint(checkout, file, tmp_path / "wanda").witnesses == ("wanda@example.org",)
    entry = log_checkpoint(checkout, file)
    assert (entry["event"], entry["size"], entry["witnesses"]) == ("checkpoint", 2, ["wanda@example.org"])
    assert base64.b64decode(entry["timestamp"]) == token_path(file).read_bytes()
    assert verify_checkpoint(open_log(checkout).data, entry["envelope"].encode(), "tavr").head.size == 2


def test_a_witness_signs_nothing_that_its_own_log_contradicts(checkout: Path, tmp_path: Path) -> None:
    append(checkout, "promoted", WHEN, {})
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "--quiet", str(checkout), str(clone))
    git(clone, "branch", "audit", "origin/audit")
    head = git(checkout, "rev-parse", "audit")
    append(checkout, "promoted", WHEN, {"version": "true"})
    git(clone, "fetch", "--quiet", "origin", "audit:audit")
    git(checkout, "update-ref", "refs/heads/audit", head)
    append(checkout, "promoted", WHEN, {"version": "rewritten"})
    file = tmp_path / "c.json"
    take_checkpoint(checkout, file)
    before = file.read_bytes()
    make_key(tmp_path / "wanda")
    with pytest.raises(VerificationError, match="the log was rewritten"):
        witness_checkpoint(clone, file, tmp_path / "wanda")
    assert file.read_bytes() == before
    assert signing_key(checkout).fingerprint == json.loads(before)["signatures"][0]["keyid"]


def test_witnesses_are_read_strictly() -> None:
    good = f'a@x,b@x namespaces="tavr-checkpoint,git",valid-after="20260101Z",valid-before="202701011200Z" {OURS.public} a comment'
    (found,) = parse_signers(f"# nobody\n\n{good}\n".encode(), "here")
    assert (found.principals, found.namespaces, found.key) == (
        ("a@x", "b@x"),
        ("tavr-checkpoint", "git"),
        PublicKey(OURS.public),
    )
    for line, message in (
        (f"*@x {OURS.public}", "without patterns"),
        (f"a@x cert-authority {OURS.public}", "option 'cert-authority' is not one of"),
        (f'a@x valid-after="20260101" {OURS.public}', "is not YYYYMMDD"),
        (f'a@x verify-required="x" {OURS.public}', "is not one of"),
        ("a@x ssh-ed25519", "not `principal"),
        (f"a@x ssh-rsa {OURS.public.split()[1]}", r"here:1: "),
        (OURS.public, "not `principal"),
    ):
        with pytest.raises(InputError, match=message):
            parse_signers(line.encode(), "here")
