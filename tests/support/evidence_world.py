"""A whole release made by hand, with every key that signed it: what the operator, and every attacker, could hold.

Nothing of the project's own signing code is used, so that a mistake there shows.
"""

import base64
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import yaml
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from tavr_lineage.closure import Consumption
from tavr_lineage.evidence.tables import write_closure, write_licences
from tavr_lineage.subjects import subject_tree
from tavr_lineage.withdrawal.withdrawal_policy import ALWAYS_KEPT, DECIDED
from tavr_records.ids import canonical_json, clip_id, sha256_bytes
from tavr_records.manifest import arrow_schema

CHECKED = ("sources", "ingest", "pairs", "latents", "preferences", "benchmark")
ORDER = ("weights", *(n for s in CHECKED[:4] for n in (s, f"check_{s}")), "stage1", "stage2", "preferences",
         "check_preferences", "stage3", "benchmark", "check_benchmark")  # fmt: skip
MODEL = {"data/stage3/model/model.safetensors": b"trained weights", "data/stage3/model/config.json": b"{}"}
REQUESTER = "Ann <ann@example.org>"
LATE = "2026-06-01T00:00:00Z"
Json = dict[str, Any]


class Key:
    """An ed25519 key that signs as OpenSSH and DSSE do."""

    def __init__(self, seed: int) -> None:
        self.private = Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32)
        public = self.private.public_key()
        self.line = public.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
        self.blob = base64.b64decode(self.line.split()[1])
        digest = base64.b64encode(hashlib.sha256(self.blob).digest()).decode()
        self.fingerprint = "SHA256:" + digest.rstrip("=")

    def sign(self, data: bytes) -> str:
        return base64.b64encode(self.private.sign(data)).decode()

    def ssh(self, message: bytes, namespace: str) -> str:
        def pack(*parts: bytes) -> bytes:
            return b"".join(len(part).to_bytes(4, "big") + part for part in parts)

        space = namespace.encode()
        told = b"SSHSIG" + pack(space, b"", b"sha512", hashlib.sha512(message).digest())
        signature = pack(b"ssh-ed25519", self.private.sign(told))
        blob = b"SSHSIG" + (1).to_bytes(4, "big") + pack(self.blob, space, b"", b"sha512", signature)
        text = base64.b64encode(blob).decode()
        lines = [text[start : start + 70] for start in range(0, len(text), 70)]
        return "\n".join(["-----BEGIN SSH SIGNATURE-----", *lines, "-----END SSH SIGNATURE-----", ""])

    def seal(self, payload: bytes, kind: str) -> bytes:
        told = b"DSSEv1 %d %s %d %s" % (len(kind), kind.encode(), len(payload), payload)
        signatures = [{"keyid": self.fingerprint, "sig": self.sign(told)}]
        body = {"payload": base64.b64encode(payload).decode(), "payloadType": kind, "signatures": signatures}
        return canonical_json(body) + b"\n"


def row(source: str, stage: str, person: str, **changes: Any) -> Json:
    """One row of the closure."""
    told = {
        "clip_id": "", "stage": stage, "person_id": person, "identity": f"i-{person}", "source_key": source,
        "source_sha256": sha256_bytes(f"source {source}".encode()), "clip_sha256": sha256_bytes(source.encode()),
        "start_ms": 0, "end_ms": 1000, "rights": "CC0-1.0", "first_step": 0, "last_step": 2, "samples": 3,
    }  # fmt: skip
    told |= changes
    return {**told, "clip_id": clip_id(told["source_key"], told["start_ms"], told["end_ms"])}


def honest_rows() -> list[Json]:
    trained = [row(f"s{n}", stage, f"person{n // 2}") for n in range(6) for stage in ("stage1", "stage2", "stage3")]
    return trained + [row(f"b{n}", "benchmark", f"judge{n // 2}", first_step=0, last_step=0) for n in range(8)]


def table_of(rows: list[Json]) -> pa.Table:
    ordered = sorted(rows, key=lambda one: (one["clip_id"], one["stage"]))
    return pa.Table.from_pylist(ordered, schema=arrow_schema(Consumption))


def policy_text(**target: Any) -> bytes:
    """A policy whose target `dev` asks for one ssh-signed approval."""
    dev = {"licences": ["CC0-1.0", "MIT"], "reviews": ["*/form"], "approvals": 1, "approval_assurance": ["ssh-signed"],
           "champion": "not-clearly-worse", "witnesses": 0, "timestamp": False}  # fmt: skip
    benchmark = {
        "metric": "id_target",
        "minimum_pairs": 4,
        "minimum_difference": 0.0,
        "confidence": 0.95,
        "resamples": 999,
    }
    policy = {
        "schema_version": 1, "artifact": "tavr", "required_stages": list(ORDER), "required_checks": list(CHECKED),
        "reviewed_splits": ["benchmark"], "benchmark": benchmark, "targets": {"dev": {**dev, **target}},
        "profile_reviews": {"tiny": ["ground-truth/automatic"]},
        "withdrawal": {
            "purge": dict.fromkeys(DECIDED, True), "keep_reasons": dict.fromkeys(ALWAYS_KEPT, "proof"),
            "face_match": {"enabled": False, "least_similarity": 0.6},
        },
    }  # fmt: skip
    return yaml.safe_dump(policy).encode()


def scores_of(gain: float) -> Json:
    pairs = [f"pair{n}" for n in range(6)]
    names = ("id_ref", "sync_c", "sync_d", "vq", "mq", "ta", "overall")
    rest = dict.fromkeys(names, 0.5)
    ours = {pair: {**rest, "id_target": 0.2 + gain + 0.013 * n} for n, pair in enumerate(pairs)}
    return {"ours": ours, "base": {pair: {**rest, "id_target": 0.2 + 0.01 * n} for n, pair in enumerate(pairs)}}


def verdict_of(stage: str, observed: int = 6) -> bytes:
    check = {"id": "rows", "severity": "critical", "passed": observed >= 1, "observed": observed, "limit": 1}
    told = {"schema_version": 1, "stage": stage, "checks": [check], "critical": observed < 1}
    return canonical_json(told) + b"\n"


@dataclass
class World:
    """Everything that can be chosen before it is signed; `files()` signs it and is the evidence."""

    rows: list[Json] = field(default_factory=honest_rows)
    policy: bytes = field(default_factory=policy_text)
    judged: list[Json] = field(default_factory=list[Json])  # withdrawals before the promotion
    later: list[Json] = field(default_factory=list[Json])
    gain: float = 0.3
    run: str = "20260101-00000001"
    approver: str = "bea@example.org"
    approved_at: str = "2026-01-02T00:00:00Z"
    promoted_at: str = "2026-01-03T00:00:00Z"
    spoil_record: Callable[[Json], None] = lambda record: None
    spoil_promotion: Callable[[Json], None] = lambda facts: None
    spoil_approval: Callable[[Json], None] = lambda payload: None
    approved: bool = True
    tag_commit: str = ""
    failing: str = ""  # stage whose check failed
    key: Key = field(default_factory=lambda: Key(1))
    tag_key: Key | None = None
    attestation_key: Key | None = None
    approval_key: Key = field(default_factory=lambda: Key(2))
    approver_key: Key = field(default_factory=lambda: Key(2))  # the one that the operator's list of approvers names
    before: list[tuple[Key, str, Json]] = field(default_factory=list[tuple[Key, str, Json]])  # log entries
    after: list[tuple[Key, str, Json]] = field(default_factory=list[tuple[Key, str, Json]])

    def verdicts(self) -> dict[str, bytes]:
        return {stage: verdict_of(stage, 0 if stage == self.failing else 6) for stage in CHECKED}

    def record(self) -> Json:
        table = table_of(self.rows)
        tree = subject_tree(table).tree
        params = {"_compose": {"profile": "tiny", "overrides": []}, "stage1": {"seed": 3},
                  "benchmark": {"candidate": "ours", "methods": {"ours": {"model": "data/stage3/model"}}}}  # fmt: skip
        learnt = {one["clip_id"]: one["rights"] for one in self.rows if one["stage"] != "benchmark"}
        record: Json = {
            "schema_version": 2,
            "run": {"run_id": self.run, "reason": "a <b>test</b>", "requested_by": REQUESTER, "parents": [],
                    "started_at": "2026-01-01T00:00:00Z", "finished_at": "2026-01-01T00:10:00Z"},
            "code": {"commit": "a" * 40, "tree": "b" * 40, "dirty": False, "dirty_paths": []},
            "environment": {"lock_sha256": sha256_bytes(b"numpy==2\n"), "platform": {"machine": "x86_64"}},
            "params": params,
            "params_sha256": sha256_bytes(canonical_json(params)),
            "seeds": {"stage1": 3},
            "dvc": {"lock_sha256": sha256_bytes(b"schema: '2.0'\n"), "stages": {}},
            "stages": [{"name": name, "state": "done", "seconds": 1.0, "reason": ""} for name in ORDER],
            "weights": [{"path": "vae/model.safetensors", "role": "vae", "origin": "zoo", "revision": "",
                         "sha256": "c" * 64, "licence": "MIT"}],
            "outputs": {name: sha256_bytes(data) for name, data in MODEL.items()},
            "ledgers": {},
            "consumption": {"path": "reports/lineage/consumption.parquet", "sha256": "d" * 64, "rows": len(table),
                            "clips": len({one["clip_id"] for one in self.rows}), "unknown_clips": [],
                            "withdrawn_clips": [], "subjects": {"size": tree.size, "merkle_root": tree.root}},
            "benchmark": {"metrics": {"candidate": "ours", "baseline": "base", "release": "r1"}, "scores": scores_of(self.gain)},
            "people": {"trained": 3, "benchmark": 4, "in_both": []},
            "reviews": [{"split": "benchmark", "review": "accepted", "reviewer": "ground-truth", "assurance": "automatic",
                         "pairs": 6}],
            "verdicts": {stage: {"sha256": sha256_bytes(data), **json.loads(data)} for stage, data in self.verdicts().items()},
            "exclusions": {},
            "licences": {"data": {"CC0-1.0": len(learnt)}, "weights": {"MIT": 1}},
        }  # fmt: skip
        self.spoil_record(record)
        return record

    def attestation(self, record: Json, digest: str) -> bytes:
        subjects = [{"name": path, "digest": {"sha256": sha}} for path, sha in sorted(record["outputs"].items())]
        statement = {
            "_type": "https://in-toto.io/Statement/v1", "predicateType": "https://slsa.dev/provenance/v1",
            "subject": [{"name": "record.json", "digest": {"sha256": digest}}, *subjects],
            "predicate": {"runDetails": {"metadata": {"invocationId": record["run"]["run_id"]}}},
        }  # fmt: skip
        return (self.attestation_key or self.key).seal(canonical_json(statement), "application/vnd.in-toto+json")

    def tag(self, name: str, commit: str, facts: Json) -> bytes:
        key = self.tag_key or self.key
        lines = [f"{field.replace('_', '-')}: {value}" for field, value in sorted(facts.items())]
        message = "\n".join([f"about {name}", "", *lines, f"key: {key.fingerprint}", ""])
        head = f"object {commit}\ntype commit\ntag {name}\ntagger T <t@t> 1767400000 +0000\n\n"
        body = (head + message).encode()
        return body + key.ssh(body, "git").encode()

    def approval(self, record_sha256: str) -> Json:
        told = {"schema_version": 1, "record_sha256": record_sha256, "target": "dev", "approver": self.approver,
                "at": self.approved_at}  # fmt: skip
        self.spoil_approval(told)
        text = canonical_json(told)
        return {"run": self.run, "target": "dev", "record_sha256": record_sha256, "approver": self.approver,
                "assurance": "ssh-signed", "payload": text.decode(), "approval_signature": self.approval_key.ssh(text, "tavr-approval"),
                "at": self.approved_at}  # fmt: skip

    def interval(self, record: Json) -> Json:
        scores = record["benchmark"]["scores"]
        gains = [
            scores["ours"][pair]["id_target"] - scores["base"][pair]["id_target"] for pair in sorted(scores["ours"])
        ]
        from tavr_lineage.intervals import paired_interval

        low, high = paired_interval(gains, 0.95, 999)
        return {"metric": "id_target", "mean": sum(gains) / len(gains), "low": low, "high": high, "pairs": len(gains)}

    def files(self) -> dict[str, bytes]:
        record = self.record()
        data = canonical_json(record) + b"\n"
        digest = sha256_bytes(data)
        attestation = self.attestation(record, digest)
        raw = f"tree {'e' * 40}\nparent {'a' * 40}\nauthor T <t@t> 0 +0000\ncommitter T <t@t> 0 +0000\n\n".encode()
        raw += f"Run {self.run}: 16 done\n\nrecord-sha256: {digest}\n".encode()
        commit = hashlib.sha1(b"commit %d\0" % len(raw) + raw).hexdigest()
        policy_json = canonical_json(yaml.safe_load(self.policy))
        lines = [canonical_json(line) + b"\n" for line in (*self.judged, *self.later)]
        facts = {"run": self.run, "record_sha256": digest, "attestation_sha256": sha256_bytes(attestation),
                 "policy_sha256": sha256_bytes(self.policy)}  # fmt: skip
        tags = ["tavr@v0.0.1", "tavr#dev#1"]
        approvers = f'{self.approver} namespaces="tavr-approval" {self.approver_key.line}\n'.encode()
        promoted = {
            **facts, "target": "dev", "commit": commit, "policy_json_sha256": sha256_bytes(policy_json),
            "withdrawn_sha256": sha256_bytes(b"".join(lines[: len(self.judged)])), "version": "v0.0.1", "tags": tags,
            "approvals": [f"{self.approver} (ssh-signed)"], "actor": REQUESTER, "at": self.promoted_at,
            "intervals": {"benchmark": self.interval(record)}, "judges": {"approvers": sha256_bytes(approvers)},
        }  # fmt: skip
        self.spoil_promotion(promoted)
        genesis = (self.key, "key added", {"public_key": self.key.line, "use": "log", "at": "2026-01-01T00:00:00Z"})
        approval = [(self.key, "approved", self.approval(digest))] if self.approved else []
        entries = [genesis, *self.before, *approval, (self.key, "promoted", promoted), *self.after]
        files = {
            "record.json": data, "attestation.json": attestation, "commit": raw, "policy.yaml": self.policy,
            "policy.json": policy_json, "withdrawn.jsonl": b"".join(lines), "dvc.lock": b"schema: '2.0'\n",
            "params.yaml": yaml.safe_dump(record["params"]).encode(), "requirements.lock": b"numpy==2\n",
            "consumption.sqlite": write_closure(table_of(self.rows)), "licences.json": write_licences(record),
            "approvers": approvers,
            **{f"verdicts/{stage}.json": told for stage, told in self.verdicts().items()},
            **{f"tags/{name}": self.tag(name, self.tag_commit or commit, facts) for name in tags},
        }  # fmt: skip
        return with_log(files, entries)


def write_log(entries: list[tuple[Key, str, Json]]) -> bytes:
    """A chained log, each entry signed by its key."""
    data, previous = b"", "0" * 64
    for seq, (key, event, facts) in enumerate(entries, start=1):
        entry = {"seq": seq, "previous": previous, "event": event, "key": key.fingerprint, "at": LATE, **facts}
        line = canonical_json({**entry, "signature": key.sign(canonical_json(entry))})
        data, previous = data + line + b"\n", sha256_bytes(line)
    return data


def checkpoint(log: bytes, key: Key, size: int | None = None, at: str = LATE) -> bytes:
    """A signed head of the log's first `size` entries."""
    lines = log.split(b"\n")
    size = len(lines) - 1 if size is None else size
    told = {"origin": "tavr", "size": size, "head": sha256_bytes(lines[size - 1]), "at": at}
    return key.seal(canonical_json(told), "application/vnd.tavr.checkpoint+json")


def with_log(files: dict[str, bytes], entries: list[tuple[Key, str, Json]]) -> dict[str, bytes]:
    """The files with another log, and the key list and checkpoint that belong to it."""
    log = write_log(entries)
    return {**files, "log.jsonl": log, "checkpoint.json": checkpoint(log, entries[-1][0]), "keys.json": key_list(log)}


def key_list(log: bytes) -> bytes:
    """keys.json as the entries say, for logs without revocations that reach back."""
    keys: dict[str, Json] = {}
    for line in log.splitlines():
        entry = json.loads(line)
        if "public_key" in entry:
            name = "SHA256:" + base64.b64encode(
                hashlib.sha256(base64.b64decode(entry["public_key"].split()[1])).digest()
            ).decode().rstrip("=")
            keys[name] = {"fingerprint": name, "public_key": entry["public_key"], "use": entry.get("use", "log"),
                          "added_seq": entry["seq"], "revoked_from_seq": None, "reason": ""}  # fmt: skip
        if entry["event"] == "key rotated":
            keys[entry["replaces"]] |= {"revoked_from_seq": entry["seq"] + 1, "reason": "rotated"}
        if entry["event"] == "key revoked":
            keys[entry["revoked"]] |= {"revoked_from_seq": entry["from_seq"], "reason": entry["reason"]}
    return canonical_json(list(keys.values())) + b"\n"


def entries_of(log: bytes, keys: list[Key]) -> list[tuple[Key, str, Json]]:
    """The entries of a log as `write_log` takes them, to be changed and signed anew."""
    by_name = {key.fingerprint: key for key in keys}
    found: list[tuple[Key, str, Json]] = []
    for line in log.splitlines():
        entry = json.loads(line)
        facts = {
            name: value for name, value in entry.items() if name not in ("seq", "previous", "event", "key", "signature")
        }
        found.append((by_name[entry["key"]], entry["event"], facts))
    return found
