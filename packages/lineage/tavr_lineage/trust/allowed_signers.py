"""Who may sign what: files in OpenSSH's `allowed_signers` form, `principal [options] keytype base64 [comment]` a line.

`conf/approvers` and `conf/witnesses` name people, so a principal is one name each, without patterns; certificates are
not taken, and the times of `valid-after` and `valid-before` are in UTC (`20260131Z` or `20260131120000Z`).
"""

import datetime as dt
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_ssh_public_key
from tavr_records.errors import InputError

from tavr_lineage.git import read_file
from tavr_lineage.require import require
from tavr_lineage.trust.keys import PublicKey

APPROVERS, WITNESSES = "conf/approvers", "conf/witnesses"
_LINE = re.compile(
    r'(?P<who>\S+)\s+(?:(?P<options>(?:[^\s"]|"[^"]*")+)\s+)?(?P<kind>[a-z][a-z0-9@.-]*)\s+(?P<key>[A-Za-z0-9+/=]{40,})(\s.*)?'
)
_OPTION = re.compile(r'(?P<name>[a-z-]+)(?:="(?P<value>[^"]*)")?')


@dataclass(frozen=True)
class AllowedSigner:
    """One key of some people, for some namespaces (empty: all), within a time (None: without end)."""

    principals: tuple[str, ...]
    key: PublicKey
    namespaces: tuple[str, ...] = ()
    valid_after: dt.datetime | None = None
    valid_before: dt.datetime | None = None

    def allows(self, principal: str, namespace: str, at: dt.datetime) -> bool:
        """Whether this key may speak for a principal, for a purpose, at a time."""
        if principal not in self.principals or (self.namespaces and namespace not in self.namespaces):
            return False
        after, before = self.valid_after, self.valid_before
        return (after is None or after <= at) and (before is None or at < before)


def read_signers(root: Path, path: str) -> list[AllowedSigner]:
    """The signers of a file as it is committed; none when there is no such file.

    Raises:
        InputError: a line that is none of theirs.
    """
    return parse_signers(read_file(root, "HEAD", path) or b"", path)


def parse_signers(data: bytes, where: str) -> list[AllowedSigner]:
    """As `read_signers`, from bytes; `where` starts every message."""
    found: list[AllowedSigner] = []
    try:
        lines = data.decode("utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise InputError(f"{where}: not UTF-8 ({error}); restore it from git") from error
    for number, line in enumerate(lines, start=1):
        if line.strip() and not line.lstrip().startswith("#"):
            found.append(_parse_line(line.strip(), f"{where}:{number}"))
    return found


def principals_of(signers: Sequence[AllowedSigner], key: PublicKey, namespace: str, at: dt.datetime) -> list[str]:
    """Everybody a key may speak for."""
    return sorted(
        {who for one in signers if one.key == key for who in one.principals if one.allows(who, namespace, at)}
    )


def _parse_line(line: str, where: str) -> AllowedSigner:
    match = _LINE.fullmatch(line)
    try:
        require(match, "not `principal [options] keytype base64`")
        assert match is not None
        key = PublicKey(f"{match['kind']} {match['key']}")
        load_ssh_public_key(key.public.encode("ascii"))
        principals = tuple(match["who"].strip('"').split(","))
        patterns = any(not who or set(who) & set('*?!"') for who in principals)
        require(not patterns, f"principal {match['who']!r}: name each person without patterns")
        options = _options(match["options"] or "")
        names = tuple(options.get("namespaces", "").split(",")) if "namespaces" in options else ()
        times = [_time(options[name]) if name in options else None for name in ("valid-after", "valid-before")]
        return AllowedSigner(principals, key, names, *times)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise InputError(f"{where}: {error}; see ssh-keygen(1), ALLOWED SIGNERS") from error


def _options(text: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for part in re.findall(r'(?:[^,"]|"[^"]*")+', text):
        match = _OPTION.fullmatch(part)
        if (
            match is None
            or match["name"] not in ("namespaces", "valid-after", "valid-before")
            or match["value"] is None
        ):
            raise ValueError(f"option {part!r} is not one of namespaces, valid-after, valid-before")
        found[match["name"]] = match["value"]
    return found


def _time(text: str) -> dt.datetime:
    match = re.fullmatch(r"(\d{8})(\d{4}(?:\d{2})?)?Z", text)
    if match is None:
        raise ValueError(f"time {text!r} is not YYYYMMDD[HHMM[SS]]Z")
    return dt.datetime.strptime(match[1] + (match[2] or "").ljust(6, "0"), "%Y%m%d%H%M%S").replace(tzinfo=dt.UTC)
