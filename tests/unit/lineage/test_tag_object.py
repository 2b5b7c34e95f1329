"""A tag by its raw bytes: in git's own form, by the key that it names, over exactly what it says."""

import re

import pytest
from evidence_world import Key
from tavr_lineage.trust.keys import PublicKey
from tavr_lineage.trust.sshsig import BEGIN, END
from tavr_lineage.trust.tag_object import TAG_PAYLOAD_TYPE, TagObject, open_tag
from tavr_records.errors import VerificationError
from tavr_records.ids import canonical_json

OURS, THIEF = Key(1), Key(2)
KEYS = [PublicKey(Key(3).line), PublicKey(OURS.line)]
NAME, COMMIT, TITLE, FACTS = "tavr@v0.0.1", "a" * 40, "tavr v0.0.1", {"record-sha256": "b" * 64, "run": "r: 1"}
SOMETHING_ELSE, ANOTHER = "SHA256:.*made for something else", "its signature was made for another tag, commit or mess"


def body(named: Key = OURS) -> bytes:
    head = f"object {COMMIT}\ntype commit\ntag {NAME}\ntagger T <t@t> 1767400000 +0000\n\n{TITLE}\n\n"
    lines = [f"{field}: {value}\n" for field, value in FACTS.items()]
    return (head + "".join(lines) + f"key: {named.fingerprint}\n").encode()


def by_ssh(signer: Key = OURS, named: Key = OURS, namespace: str = "git") -> bytes:
    return body(named) + signer.ssh(body(named), namespace).encode()


def by_dsse(signer: Key = OURS, named: Key = OURS, kind: str = TAG_PAYLOAD_TYPE) -> bytes:
    told = canonical_json({"tag": NAME, "commit": COMMIT, "title": TITLE, "facts": FACTS})
    return body(named) + b"dsse: " + signer.seal(told, kind)


def refuse(raw: bytes, message: str) -> None:
    with pytest.raises(VerificationError, match=f"^here: {message}"):
        open_tag(raw, KEYS, "here")


def test_both_kinds_say_the_same() -> None:
    facts = {**FACTS, "key": OURS.fingerprint}
    assert open_tag(by_ssh(), KEYS, "here") == TagObject(NAME, COMMIT, TITLE, facts, OURS.fingerprint, "ssh")
    assert open_tag(by_dsse(), KEYS, "here") == TagObject(NAME, COMMIT, TITLE, facts, OURS.fingerprint, "dsse")


@pytest.mark.parametrize("raw", [by_ssh(), by_dsse()])
@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"type commit", b"type tree"),
        (b"type commit\n", b"type commit\ntype commit\n"),
        (b"object ", b"object  "),
        (b"object a", b"object A"),
        (b"\ntagger ", b"\nencoding x\ntagger "),
        (b"\n\nrecord", b"\nrecord"),
        (b"r: 1", b"\xff"),
    ],
)
def test_another_form_is_no_tag(raw: bytes, old: bytes, new: bytes) -> None:
    refuse(raw.replace(old, new, 1), "not an annotated tag of a commit")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"object a", b"object b"),
        (b"v0.0.1\ntagger", b"v0.0.2\ntagger"),
        (b"\n\ntavr", b"\n\nother"),
        (b"r: 1", b"r: 2"),
        (b"key: ", b"more: x\nkey: "),
    ],
)
def test_an_edited_tag_is_refused(old: bytes, new: bytes) -> None:
    refuse(by_ssh().replace(old, new, 1), SOMETHING_ELSE)
    refuse(by_dsse().replace(old, new, 1), ANOTHER)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (f"{BEGIN}\n", f"{BEGIN}\r\n"),
        (f"{BEGIN}\n", f"{BEGIN}\n "),
        (f"{END}\n", END),
        (f"{END}\n", f"{END}\n\n"),
        (f"{END}\n", f"{END}\nrun: x\n"),
    ],
)
def test_another_spelling_of_the_signature_is_refused(old: str, new: str) -> None:
    refuse(by_ssh().replace(old.encode(), new.encode()), "its signature cannot be read")


def test_a_signature_for_something_else_is_refused() -> None:
    refuse(by_ssh(namespace="file"), "signed for 'file', not for 'git'")
    refuse(by_dsse(kind="application/vnd.in-toto+json"), ANOTHER)
    refuse(body(), "is not signed")
    refuse(body() + b"dsse: {}\n", "not a DSSE envelope")
    refuse(body().replace(b"key: ", b"kez: ") + b"dsse: {}\n", "signed by None, which is none of the trusted keys")


def test_only_the_key_that_it_names_counts() -> None:
    for raw in (by_ssh(THIEF, THIEF), by_dsse(THIEF, THIEF)):
        refuse(raw, f"signed by {re.escape(THIEF.fingerprint)}, which is none of the trusted keys")
    refuse(
        by_ssh(THIEF),
        f"signed by {re.escape(THIEF.fingerprint)}, not by the key it names, {re.escape(OURS.fingerprint)}",
    )
    refuse(by_dsse(THIEF), "signed by none of the known keys")
    both = by_dsse() + THIEF.ssh(by_dsse(), "git").encode()
    refuse(both, f"signed by {re.escape(THIEF.fingerprint)}, not by the key it names")


def test_a_trusted_key_does_not_sign_for_another() -> None:
    refuse(by_ssh(Key(3)), f"signed by {re.escape(Key(3).fingerprint)}, not by the key it names")
    refuse(by_dsse(Key(3)), "signed by none of the known keys")
