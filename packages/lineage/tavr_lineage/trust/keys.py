"""The signing key: `$TAVR_SIGNING_KEY`, or an ed25519 development key made on first use inside the `.git` folder.

There it is shared by all worktrees, survives `git clean` and can never be committed.
"""

import base64
import hashlib
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_public_key,
    load_ssh_private_key,
    load_ssh_public_key,
)
from tavr_records.errors import InputError

from tavr_lineage.git import common_directory

PRINCIPAL = "tavr"
VARIABLE = "TAVR_SIGNING_KEY"


@dataclass(frozen=True)
class PublicKey:
    """A public key in OpenSSH form, `<type> <base64>`."""

    public: str

    @property
    def fingerprint(self) -> str:
        """`SHA256:...`, as OpenSSH prints it."""
        return fingerprint(self.public)

    def pem(self) -> bytes:
        """The same key as OpenSSL, securesystemslib and model-signing read it."""
        return load_ssh_public_key(self.public.encode("ascii")).public_bytes(
            Encoding.PEM, PublicFormat.SubjectPublicKeyInfo
        )


@dataclass(frozen=True)
class SigningKey:
    """A private key with its file, its public half in OpenSSH form and its fingerprint `SHA256:...`."""

    path: Path
    private: Ed25519PrivateKey
    public: str
    fingerprint: str

    def sign(self, data: bytes) -> bytes:
        """The 64 bytes of an ed25519 signature."""
        return self.private.sign(data)


def signing_key(root: Path) -> SigningKey:
    """The key to sign with; a development key is made when none is named.

    Raises:
        InputError: the named key is missing or is no unencrypted OpenSSH ed25519 key.
    """
    named = os.environ.get(VARIABLE)
    path = Path(named) if named else development_key(root)
    if not named and not path.exists():
        make_key(path)
    return load_key(path)


def development_key(root: Path) -> Path:
    """Where the development key lies."""
    return common_directory(root) / "tavr" / "dev_ed25519"


def load_key(path: Path) -> SigningKey:
    """Read a private key.

    Raises:
        InputError: missing, encrypted, or no OpenSSH ed25519 key.
    """
    try:
        private = load_ssh_private_key(path.read_bytes(), password=None)
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise InputError(f"{path}: cannot be used to sign ({error}); name an OpenSSH ed25519 key") from error
    if not isinstance(private, Ed25519PrivateKey):
        raise InputError(f"{path}: a {type(private).__name__}; name an ed25519 key in {VARIABLE}")
    public = public_line(private)
    return SigningKey(path, private, public, fingerprint(public))


def load_public(path: Path) -> PublicKey:
    """Read a public key file: `<type> <base64> [comment]`, or PEM.

    Raises:
        InputError: missing, or no public key.
    """
    try:
        data = path.read_bytes()
        pem = data.startswith(b"-----BEGIN PUBLIC KEY-----")
        key = load_pem_public_key(data) if pem else load_ssh_public_key(b" ".join(data.split()[:2]))
        return PublicKey(key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode("ascii"))
    except (OSError, ValueError, UnsupportedAlgorithm) as error:
        raise InputError(f"{path}: no public key ({error}); give the file that ends in .pub") from error


def public_line(private: Ed25519PrivateKey) -> str:
    """The public half as `ssh-ed25519 <base64>`."""
    return private.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode("ascii")


def fingerprint(public: str) -> str:
    """The fingerprint OpenSSH prints for a public key line."""
    digest = hashlib.sha256(base64.b64decode(public.split()[1])).digest()
    return "SHA256:" + base64.b64encode(digest).decode("ascii").rstrip("=")


def make_key(path: Path) -> None:
    """Make an ed25519 key, with its public half beside it."""
    private = Ed25519PrivateKey.generate()
    if write_private(path, private.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())):
        public = public_line(private) + " tavr development key\n"
        path.with_name(path.name + ".pub").write_text(public, encoding="ascii")


def write_private(path: Path, data: bytes) -> bool:
    """Write a fresh key readable by its owner only; of two writers at once, one wins and both use its key."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # its mode is 0600
    temporary = Path(name)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
    try:
        os.link(temporary, path)
    except FileExistsError:
        return False
    finally:
        temporary.unlink()
    return True
