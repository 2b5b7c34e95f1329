"""SSH signatures that ssh-keygen made are read as it reads them; what it would refuse is refused."""

import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tavr_lineage.trust.keys import load_public
from tavr_lineage.trust.sshsig import parse_signature, verify_signature
from tavr_records.errors import VerificationError

MESSAGE = b"any bytes\x00\n"


def made(folder: Path, *kind: str, namespace: str = "tavr-approval", options: tuple[str, ...] = ()) -> tuple[Path, str]:
    """A key of a kind, and its signature of `MESSAGE`."""
    key = folder / "_".join(kind)
    if not key.exists():
        subprocess.run(["ssh-keygen", "-q", "-N", "", "-f", str(key), "-t", *kind], check=True)
    command = ["ssh-keygen", "-q", "-Y", "sign", "-n", namespace, "-f", str(key), *options]
    return key, subprocess.run(command, input=MESSAGE, capture_output=True, check=True).stdout.decode()


@pytest.mark.parametrize(
    "kind",
    [("ed25519",), ("ecdsa",), ("ecdsa", "-b", "384"), ("ecdsa", "-b", "521"), ("rsa", "-b", "2048")],
    ids=" ".join,
)
def test_every_common_kind_of_key(tmp_path: Path, kind: tuple[str, ...]) -> None:
    key, armored = made(tmp_path, *kind)
    public = load_public(key.with_name(key.name + ".pub"))
    assert verify_signature(armored, MESSAGE, "tavr-approval") == public
    listed = subprocess.run(["ssh-keygen", "-lf", str(key)], capture_output=True, text=True, check=True).stdout
    assert public.fingerprint in listed
    with pytest.raises(VerificationError, match="does not fit what is signed"):
        verify_signature(armored, MESSAGE + b".", "tavr-approval")
    with pytest.raises(VerificationError, match="signed for 'tavr-approval', not for 'git'"):
        verify_signature(armored, MESSAGE, "git")


def test_weak_keys_and_other_hashes(tmp_path: Path) -> None:
    with pytest.raises(VerificationError, match="with 1024 bits"):
        verify_signature(made(tmp_path, "rsa", "-b", "1024")[1], MESSAGE, "tavr-approval")
    with pytest.raises(VerificationError, match="made with the hash b'sha256', not sha512"):
        verify_signature(made(tmp_path, "ed25519", options=("-O", "hashalg=sha256"))[1], MESSAGE, "tavr-approval")
    for text in ("", "-----BEGIN SSH SIGNATURE-----\n!\n-----END SSH SIGNATURE-----", "nothing"):
        with pytest.raises(VerificationError, match="not an SSH signature"):
            parse_signature(text)


@pytest.fixture(scope="module")
def signed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, str]]:
    folder = tmp_path_factory.mktemp("keys")
    return {kind: made(folder, kind) for kind in ("ed25519", "ecdsa")}


@given(st.sampled_from(["ed25519", "ecdsa"]), st.integers(0, 10_000), st.integers(1, 127))
@settings(max_examples=200, deadline=None)
def test_a_changed_signature_is_never_somebody_elses(
    signed: dict[str, tuple[Path, str]], kind: str, position: int, change: int
) -> None:
    key, armored = signed[kind]
    spoilt = bytearray(armored.encode())
    spoilt[position % len(spoilt)] ^= change
    try:
        found = verify_signature(spoilt.decode(), MESSAGE, "tavr-approval")
    except VerificationError:
        return
    assert found == load_public(key.with_name(key.name + ".pub"))
