"""The signing key: `$TAVR_SIGNING_KEY`, or an ed25519 development key made on first use inside the `.git` folder.

There it is shared by all worktrees, survives `git clean` and can never be committed.
"""

import base64
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_ssh_private_key,
)
from tavr_records.errors import InputError

from tavr_lineage.git import common_directory

PRINCIPAL = "tavr"


@dataclass(frozen=True)
class SigningKey:
    """A private key with its file, its public half in OpenSSH form and its fingerprint `SHA256:...`."""

    path: Path
    private: Ed25519PrivateKey
    public: str
    fingerprint: str

    @property
    def allowed_signers(self) -> Path:
        """A file that tells `git tag -v` whom to trust: this key alone."""
        return self.path.with_name(self.path.name + ".allowed_signers")


def signing_key(root: Path) -> SigningKey:
    """The key to sign with; a development key is made when none is named.

    Raises:
        InputError: the named key is missing or is no unencrypted OpenSSH ed25519 key.
    """
    named = os.environ.get("TAVR_SIGNING_KEY")
    path = Path(named) if named else common_directory(root) / "tavr" / "dev_ed25519"
    if not named and not path.exists():
        _make_key(path)
    try:
        private = load_ssh_private_key(path.read_bytes(), password=None)
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise InputError(f"{path}: cannot be used to sign ({error}); name an OpenSSH ed25519 key") from error
    if not isinstance(private, Ed25519PrivateKey):
        raise InputError(f"{path}: a {type(private).__name__}; name an ed25519 key in TAVR_SIGNING_KEY")
    public = public_line(private)
    key = SigningKey(path, private, public, fingerprint(public))
    if not named:
        key.allowed_signers.write_text(f'{PRINCIPAL} namespaces="git" {public}\n', encoding="ascii")
    return key


def public_line(private: Ed25519PrivateKey) -> str:
    """The public half as `ssh-ed25519 <base64>`."""
    return private.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode("ascii")


def fingerprint(public: str) -> str:
    """The fingerprint OpenSSH prints for a public key line."""
    digest = hashlib.sha256(base64.b64decode(public.split()[1])).digest()
    return "SHA256:" + base64.b64encode(digest).decode("ascii").rstrip("=")


def _make_key(path: Path) -> None:
    """Write a fresh key readable by its owner only; of two processes at once, one wins and both use its key."""
    path.parent.mkdir(parents=True, exist_ok=True)
    private = Ed25519PrivateKey.generate()
    data = private.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
    try:
        os.link(temporary, path)
    except FileExistsError:
        return
    finally:
        temporary.unlink()
    path.with_name(path.name + ".pub").write_text(public_line(private) + " tavr development key\n", encoding="ascii")
