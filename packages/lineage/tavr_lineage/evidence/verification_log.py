"""Steps about the log and what hangs on it: keys, checkpoints, the promotion, its tags and its commit."""

import hashlib
import itertools
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from tavr_records.errors import VerificationError
from tavr_records.ids import canonical_json, sha256_bytes

from tavr_lineage.record import SCHEMA_VERSION
from tavr_lineage.registry import MOVES
from tavr_lineage.trust.checkpoint import verify_checkpoint
from tavr_lineage.trust.keyring import LoggedKey, describe_keys
from tavr_lineage.trust.log import Log, parse_log
from tavr_lineage.trust.tag_object import open_tag

Files = Mapping[str, bytes]
_SECOND = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", re.ASCII)
_TAG_FACTS = ("record_sha256", "attestation_sha256", "policy_sha256", "run")


@dataclass(frozen=True)
class Promoted:
    """A promotion on a log that holds: its entry, its record, and the keys that may have signed what it rests on."""

    log: Log
    entry: Mapping[str, Any]
    record: Mapping[str, Any]

    @property
    def before(self) -> list[dict[str, Any]]:
        """The trusted entries before it."""
        return [entry for entry in self.log.trusted() if entry["seq"] < self.entry["seq"]]

    @property
    def artifact(self) -> str:
        """Whose release it is."""
        return str(self.entry["tags"][0]).split("@")[0]

    def signers(self) -> list[LoggedKey]:
        """The keys of the log that were valid at the promotion, or rotated out before it in good order."""
        seq = self.entry["seq"]
        return [
            key for key in self.log.keyring.keys if key.use == "log" and (key.active_at(seq) or not key.compromised)
        ]

    def holds(self) -> list[str]:
        """The stages that the version holds by now."""
        moves = {entry["target"]: entry["version"] for entry in self.log.trusted() if entry["event"] in MOVES}
        return sorted(stage for stage, version in moves.items() if version == self.entry["version"])

    def describe(self) -> dict[str, Any]:
        """The release in short."""
        names = ("version", "run", "commit", "target", "record_sha256", "at")
        return {**{name: self.entry[name] for name in names}, "holds": self.holds()}


def check_log(files: Files, trust: str) -> tuple[Log, str]:
    """Chain, signatures and key validity; entries in the order of time; the key it begins with."""
    log = parse_log(files["log.jsonl"])
    if not log.entries:
        raise VerificationError("the log is empty")
    for entry in log.entries:
        if _SECOND.fullmatch(str(entry["at"])) is None:
            raise VerificationError(f"log line {entry['seq']}: at is {entry['at']!r}, no second in UTC")
    for earlier, later in itertools.pairwise(log.entries):
        if later["at"] < earlier["at"]:
            raise VerificationError(f"log line {later['seq']}: dated before its predecessor")
    if files["keys.json"] != write_keys(log):
        raise VerificationError("keys.json: not what the log says")
    root = str(log.entries[0]["key"])
    if trust not in ("", root):
        raise VerificationError(f"the log begins with {root}, not with the key you trust")
    told = "as you trust" if trust else "compare it with what the operator publishes, or give --trust"
    untrusted = len(log.keyring.untrusted)
    return log, f"{len(log.entries)} entries ({untrusted} not trusted), begins with {root}: {told}"


def write_keys(log: Log) -> bytes:
    """`keys.json`: every key the log ever named, with its validity."""
    return canonical_json(describe_keys(log.keyring)) + b"\n"


def check_checkpoint(files: Files, log: Log, since: bytes | None, *, required: bool) -> tuple[bool, str]:
    """The checkpoint of the evidence and one that was kept before are heads of this very log."""
    found: list[str] = []
    if required or "checkpoint.json" in files:
        found.append(_head_of(log, files["checkpoint.json"], files, "checkpoint.json"))
    if since is None:
        found.append("no earlier checkpoint given (--since)")
    else:
        found.append(_head_of(log, since, files, "the kept checkpoint") + ": nothing before it has changed")
    return True, "; ".join(found)


def _head_of(log: Log, data: bytes, files: Files, what: str) -> str:
    artifact = next(name for name in files if name.startswith("tags/")).removeprefix("tags/")
    try:
        head = verify_checkpoint(log.data, data, re.split("[@#]", artifact)[0]).head
    except VerificationError as error:
        raise VerificationError(f"{what}: {error}") from error
    if head.at < log.entries[head.size - 1]["at"]:
        raise VerificationError(f"{what}: dated before what it covers")
    return f"line {head.size} has head {head.head} at {head.at}"


def check_promotion(files: Files, log: Log) -> tuple[Promoted, str]:
    """A trusted line of the log promoted this record, by the two tags in the evidence."""
    tags = sorted(name.removeprefix("tags/") for name in files if name.startswith("tags/"))
    found = [entry for entry in log.trusted() if entry["event"] == "promoted" and sorted(entry["tags"]) == tags]
    if len(found) != 1:
        raise VerificationError(f"no trusted line of the log promoted by the tags {', '.join(tags) or '(none)'}")
    entry, data = found[0], files["record.json"]
    record = read_canonical(data, "record.json")
    if sha256_bytes(data) != entry["record_sha256"]:
        raise VerificationError("record.json: not the record that was promoted")
    if record["schema_version"] != SCHEMA_VERSION:
        raise VerificationError(
            f"record.json: schema_version {record['schema_version']}, this code reads {SCHEMA_VERSION}"
        )
    if sha256_bytes(canonical_json(record["params"])) != record["params_sha256"]:
        raise VerificationError("record.json: its parameters differ from their digest")
    if record["run"]["run_id"] != entry["run"] or record["run"]["finished_at"] > entry["at"]:
        raise VerificationError("record.json: of another run, or of a run that ended after its promotion")
    promoted = Promoted(log, entry, record)
    held = ", ".join(promoted.holds()) or "nothing"
    return (
        promoted,
        f"{entry['version']}, run {entry['run']}, for {entry['target']} at {entry['at']}; holds now: {held}",
    )


def check_tags(files: Files, promoted: Promoted) -> tuple[bool, str]:
    """Both tags name the promoted commit, say what the log says, and are signed by the key of their line."""
    for name in promoted.entry["tags"]:
        first = next(e for e in promoted.log.trusted() if e["event"] == "promoted" and name in e["tags"])
        key = promoted.log.keyring.find(first["key"])
        assert key is not None, "a parsed log knows the keys of its lines"
        if first["commit"] != promoted.entry["commit"]:
            raise VerificationError(f"tag {name}: of another commit")
        raw = files[f"tags/{name}"]
        if not raw.startswith(f"object {first['commit']}\ntype commit\ntag {name}\n".encode()):
            there = raw[7:19].decode(errors="replace")
            raise VerificationError(f"tag {name}: points to {there}, not to the promoted commit")
        facts = open_tag(raw, [key], f"tag {name}").facts
        for fact in _TAG_FACTS:
            if facts.get(fact.replace("_", "-")) != first[fact]:
                raise VerificationError(f"tag {name}: its {fact} is not what the log says")
    return True, " and ".join(promoted.entry["tags"])


def check_commit(files: Files, promoted: Promoted) -> tuple[bool, str]:
    """The commit is the promoted one, and names the record."""
    raw, commit = files["commit"], str(promoted.entry["commit"])
    kind = "sha1" if len(commit) == 40 else "sha256"
    if hashlib.new(kind, b"commit %d\0" % len(raw) + raw).hexdigest() != commit:
        raise VerificationError("commit: not the promoted commit")
    if f"\nrecord-sha256: {promoted.entry['record_sha256']}\n".encode() not in raw:
        raise VerificationError("commit: of another record")
    code = promoted.record["code"]
    return True, f"{commit}, made of the code of commit {code['commit']}{' and changes' if code['dirty'] else ''}"


def read_canonical(data: bytes, name: str, end: bytes = b"\n") -> Any:
    """Read JSON that is in its canonical form.

    Raises:
        VerificationError: it is not: doubled keys, spaces, another spelling of the same value.
    """
    try:
        value: Any = json.loads(data)
        same = canonical_json(value) + end == data
    except (ValueError, RecursionError) as error:
        raise VerificationError(f"{name}: not canonical JSON ({error})") from error
    if not same:
        raise VerificationError(f"{name}: not canonical JSON")
    return value


def log_before(promoted: Promoted) -> Log:
    """The log as it was before the promotion, with what is known of its keys by now."""
    entries = promoted.log.entries[: promoted.entry["seq"] - 1]
    data = b"".join(line + b"\n" for line in promoted.log.data.split(b"\n")[: len(entries)])
    return replace(promoted.log, data=data, entries=entries)
