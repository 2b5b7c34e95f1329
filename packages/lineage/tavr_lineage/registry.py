"""The registry: signed annotated git tags that plain `gto` reads, such as `tavr@v0.0.3` and `tavr#dev#7`."""

import json
import re
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tavr_records.errors import InputError
from tavr_records.ids import canonical_json

from tavr_lineage.attest import open_sealed, seal
from tavr_lineage.git import GitError, git
from tavr_lineage.keys import PRINCIPAL, SigningKey

TAG_PAYLOAD_TYPE = "application/vnd.tavr.tag+json"
_SEALED = re.compile(r"^dsse: (\{.*\})$", re.MULTILINE)


@dataclass(frozen=True)
class Version:
    """One registered version: its tag `name`, number within 0.0.x, and commit."""

    name: str
    number: int
    commit: str

    @property
    def label(self) -> str:
        """The version alone: `v0.0.3`."""
        return self.name.split("@")[1]


@dataclass(frozen=True)
class Tag:
    """A tag to be made: its name, commit, first line, and the `field: value` lines its signature covers."""

    name: str
    commit: str
    title: str
    facts: Mapping[str, str]


@dataclass(frozen=True)
class Assignment:
    """One stage assignment: `counter` orders all assignments of the artifact."""

    name: str
    stage: str
    counter: int
    commit: str


def list_versions(root: Path, artifact: str) -> list[Version]:
    """Every registered version, oldest first."""
    pattern = re.compile(re.escape(artifact) + r"@v0\.0\.(\d+)")
    found = [Version(name, int(m[1]), commit) for name, commit in _tags(root) if (m := pattern.fullmatch(name))]
    return sorted(found, key=lambda version: version.number)


def list_assignments(root: Path, artifact: str) -> list[Assignment]:
    """Every stage assignment, oldest first."""
    pattern = re.compile(re.escape(artifact) + r"#([a-z][a-z0-9-]*)#(\d+)")
    found = [Assignment(name, m[1], int(m[2]), at) for name, at in _tags(root) if (m := pattern.fullmatch(name))]
    return sorted(found, key=lambda assignment: assignment.counter)


def holder(root: Path, artifact: str, stage: str) -> Version | None:
    """The version that holds a stage now."""
    commits = {version.commit: version for version in list_versions(root, artifact)}
    held = [a for a in list_assignments(root, artifact) if a.stage == stage and a.commit in commits]
    return commits[held[-1].commit] if held else None


def find_version(root: Path, artifact: str, label: str) -> Version:
    """A version by its label `v0.0.3` or tag name.

    Raises:
        InputError: there is none.
    """
    for version in list_versions(root, artifact):
        if label in (version.label, version.name):
            return version
    raise InputError(f"{label!r}: no such version; `tavr status` lists them")


def register(root: Path, artifact: str, commit: str, facts: Mapping[str, str], key: SigningKey) -> Version:
    """Give a commit the next version; a commit that has one keeps it (GTO allows one version a commit)."""
    versions = list_versions(root, artifact)
    for version in versions:
        if version.commit == commit:
            return version
    number = versions[-1].number + 1 if versions else 1
    name = f"{artifact}@v0.0.{number}"
    create_tag(root, Tag(name, commit, f"{artifact} v0.0.{number}", facts), key)
    return Version(name, number, commit)


def assign(root: Path, version: Version, stage: str, facts: Mapping[str, str], key: SigningKey) -> str:
    """Let a version hold a stage; returns the tag."""
    artifact = version.name.split("@")[0]
    assignments = list_assignments(root, artifact)
    counter = assignments[-1].counter + 1 if assignments else 1
    name = f"{artifact}#{stage}#{counter}"
    create_tag(root, Tag(name, version.commit, f"{artifact} {version.label} holds {stage}", facts), key)
    return name


def create_tag(root: Path, tag: Tag, key: SigningKey) -> str:
    """Create a signed annotated tag; returns how it is signed: `ssh`, or `dsse` where git cannot sign with ssh.

    Raises:
        InputError: the tag is already there: somebody else was faster.
    """
    facts = dict(sorted(tag.facts.items()))
    when = {"GIT_COMMITTER_DATE": f"{_tag_second(root)} +0000"}
    lines = [tag.title, "", *(f"{field}: {value}" for field, value in facts.items()), f"key: {key.fingerprint}"]
    if shutil.which("ssh-keygen"):
        signing = ("-c", "gpg.format=ssh", "-c", "gpg.ssh.program=ssh-keygen", "-c", f"user.signingKey={key.path}")
        try:
            git(root, *signing, "tag", "-s", "-F", "-", tag.name, tag.commit, stdin=_message(lines), environment=when)
        except GitError as error:
            if "already exists" in str(error):
                raise InputError(f"tag {tag.name} is already there; run the command again") from error
        else:
            return "ssh"
    payload = canonical_json({"tag": tag.name, "commit": tag.commit, "title": tag.title, "facts": facts})
    sealed = canonical_json(seal(payload, TAG_PAYLOAD_TYPE, key)).decode("ascii")
    try:
        message = _message([*lines, f"dsse: {sealed}"])
        git(root, "tag", "-a", "-F", "-", tag.name, tag.commit, stdin=message, environment=when)
    except GitError as error:
        raise InputError(f"tag {tag.name}: {error}; run the command again") from error
    return "dsse"


def tag_facts(root: Path, name: str) -> dict[str, str]:
    """The `field: value` lines of a tag's message."""
    text = git(root, "tag", "-l", "--format=%(contents:body)", name)
    return dict(line.split(": ", 1) for line in text.splitlines() if ": " in line and not line.startswith("dsse: "))


def verify_tag(root: Path, name: str, key: SigningKey) -> str:
    """Check a tag's signature against a key; returns `ssh` or `dsse`.

    Raises:
        InputError: not signed by the key, or signed for another tag, commit or message.
    """
    text = git(root, "cat-file", "tag", name)
    found = _SEALED.search(text)
    if found is None:
        trust = ("-c", "gpg.format=ssh", "-c", f"gpg.ssh.allowedSignersFile={key.allowed_signers}")
        try:
            git(root, *trust, "tag", "-v", name)
        except GitError as error:
            raise InputError(f"tag {name}: not signed by {PRINCIPAL}'s key {key.fingerprint} ({error})") from error
        return "ssh"
    told = json.loads(open_sealed(found[1].encode(), [key], f"tag {name}"))
    facts = tag_facts(root, name)
    facts.pop("key", None)
    commit = git(root, "rev-parse", f"{name}^{{commit}}")
    if (told["tag"], told["commit"], told["facts"]) != (name, commit, facts):
        raise InputError(f"tag {name}: its signature was made for another tag, commit or message")
    return "dsse"


def _tag_second(root: Path) -> int:
    """Now in Unix seconds, but after every tag there is: GTO orders by the second, and two tags may share one."""
    newest = git(root, "for-each-ref", "--sort=-creatordate", "--count=1", "--format=%(creatordate:unix)", "refs/tags")
    return max(int(time.time()), int(newest or 0) + 1)


def _message(lines: list[str]) -> bytes:
    return ("\n".join(lines) + "\n").encode()


def _tags(root: Path) -> list[tuple[str, str]]:
    """(name, commit) of every annotated tag."""
    listing = git(root, "for-each-ref", "--format=%(refname:strip=2) %(*objectname)", "refs/tags")
    pairs = [line.split(" ") for line in listing.splitlines()]
    return [(name, commit) for name, commit in pairs if commit]
