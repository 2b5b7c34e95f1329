"""The registry: signed annotated git tags that plain `gto` reads, such as `tavr@v0.0.3` and `tavr#dev#7`.

The audit log is what counts: a stage is held by the version that the log's last trusted line for it names, and the tags
that line names must be there, signed by its key, at its commit. A tag without a line moves nothing.
"""

import re
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tavr_records.errors import InputError, VerificationError
from tavr_records.ids import canonical_json

from tavr_lineage.git import GitError, git, git_bytes, resolve
from tavr_lineage.trust.keys import PublicKey, SigningKey
from tavr_lineage.trust.log import Log, open_log
from tavr_lineage.trust.tag_object import TAG_PAYLOAD_TYPE, open_tag

MOVES = ("promoted", "rolled back")
"""Events of the log that let a version hold a stage."""


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
    """The version that holds a stage now, by the log and by its tags.

    Raises:
        VerificationError: the log is broken, or a tag it names is missing, moved, or signed by another key.
    """
    log = open_log(root)
    entry = last_move(log, stage)
    if entry is None:
        return None
    check_move(root, log, entry)
    label = f"{artifact}@{entry['version']}"
    return next((version for version in list_versions(root, artifact) if version.name == label), None)


def last_move(log: Log, stage: str) -> dict[str, Any] | None:
    """The log's last trusted line that let a version hold a stage."""
    moves = [entry for entry in log.trusted() if entry["event"] in MOVES and entry["target"] == stage]
    return moves[-1] if moves else None


def check_move(root: Path, log: Log, entry: Mapping[str, Any]) -> None:
    """Hold the tags of a `promoted` or `rolled back` line against it.

    Raises:
        VerificationError: one is missing, moved, or not signed by the line's key.
    """
    commits = dict(_tags(root))
    key = log.keyring.find(entry["key"])
    assert key is not None, "a parsed log knows the keys of its lines"
    for name in entry["tags"]:
        if name not in commits:
            raise VerificationError(
                f"tag {name}: line {entry['seq']} of the log names it and it is not here; fetch tags"
            )
        if commits[name] != entry["commit"]:
            raise VerificationError(
                f"tag {name}: was moved to {commits[name][:12]}; the log says {entry['commit'][:12]}"
            )
    verify_tag(root, entry["tags"][-1], key)


def unlogged_tags(root: Path, artifact: str, log: Log) -> list[str]:
    """Tags in the form of ours that no trusted line of the log names: nobody's promotion, or one cut short."""
    named = {name for entry in log.trusted() if entry["event"] in MOVES for name in entry["tags"]}
    ours = [tag.name for tag in (*list_versions(root, artifact), *list_assignments(root, artifact))]
    return [name for name in ours if name not in named]


def find_version(root: Path, artifact: str, label: str) -> Version:
    """A version by its label `v0.0.3` or tag name.

    Raises:
        InputError: there is none.
    """
    for version in list_versions(root, artifact):
        if label in (version.label, version.name):
            return version
    raise InputError(f"{label!r}: no such version; `tavr status` lists them")


def resolve_candidate(root: Path, name: str, artifact: str) -> str:
    """The commit of a run id, a version label or anything git knows."""
    if any(name in (version.label, version.name) for version in list_versions(root, artifact)):
        return find_version(root, artifact, name).commit
    try:
        return resolve(root, f"run/{name}")
    except InputError:
        return resolve(root, name)


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
    from tavr_lineage.trust.attest import seal  # seconds of import, wanted on a machine without ssh-keygen alone

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


def verify_tag(root: Path, name: str, key: PublicKey | SigningKey) -> str:
    """Check a tag's signature against a key; returns `ssh` or `dsse`.

    Raises:
        VerificationError: not signed by the key, or signed for another tag, commit or message.
    """
    tag = open_tag(git_bytes(root, "cat-file", "tag", name), [key], f"tag {name}")
    if tag.name != name:
        raise VerificationError(f"tag {name}: its signature was made for another tag, {tag.name}")
    return tag.how


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
