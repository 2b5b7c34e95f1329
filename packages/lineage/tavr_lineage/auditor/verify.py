"""Verify a TAVR evidence file and ask it who was used: `python verify.py FILE.zip --trust FINGERPRINT`.

Needs Python 3.9 and the package `cryptography`; shares no code with TAVR. Top to bottom: tools, the zip file, class
Evidence with one method a step (STEPS lists them), questions, the command. A step returns what it established or raises
`Failed` with the reason. Exit code: 0 every step holds, 4 one does not, 2 a wrong command. Whether a policy allowed the
promotion is a question of its own: `judge.py`, beside this file, adds that.
"""
# fmt: off
# ruff: noqa: D103, I001

from __future__ import annotations

import argparse, base64, hashlib, json, re, sqlite3, sys, tempfile, zipfile  # noqa: E401
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

COLUMNS = ("clip_id", "stage", "person_id", "identity", "source_key", "source_sha256", "clip_sha256",
           "start_ms", "end_ms", "rights", "first_step", "last_step", "samples")
NUMBERS = ("start_ms", "end_ms", "first_step", "last_step", "samples")
SUBJECTS = {"clip_id": ["clip_id"], "person_id": ["person_id"], "source_key": ["source_key"],
            "sha256": ["source_sha256", "clip_sha256"]}
KINDS = {"clip": "clip_id", "person": "person_id", "source": "source_key", "file": "sha256", **{k: k for k in SUBJECTS}}
NAMES = re.compile(  # from model.sig, params.yaml, index.html, README.txt and programs nothing is concluded here
    r"(record|attestation|checkpoint|keys|policy|licences|champion|champion_proof)\.json|model\.sig|checkpoint\.tsr|commit"
    r"|approvers|witnesses|timestamp-roots\.pem|(log|withdrawn)\.jsonl|(policy|params)\.yaml|(dvc|requirements)\.lock"
    r"|consumption\.sqlite|README\.txt|(verify|judge|check_proof)\.py|index\.html|tags/[A-Za-z0-9][A-Za-z0-9._@#-]*"
    r"|verdicts/[a-z][a-z0-9_]*\.json")
SECOND = re.compile("[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")

class Failed(Exception):  # noqa: N818 - a finding, no error of the program
    """A step does not hold; the message says why."""

def need(held: object, reason: str) -> None:
    if not held:
        raise Failed(reason)
def canonical(value: Any) -> bytes:  # the one byte string of a JSON value
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()
def parse(data: bytes, name: str, end: bytes = b"\n") -> Any:  # doubled keys and other spellings are refused
    value = json.loads(data)
    need(canonical(value) + end == data, f"{name}: not canonical JSON")
    return value
def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
def strings(blob: bytes) -> list[bytes]:  # of an SSH structure: each has its length before it
    found: list[bytes] = []
    while blob:
        size = 4 + int.from_bytes(blob[:4], "big")
        need(len(blob) >= size, "an SSH structure is cut off")
        found, blob = [*found, blob[4:size]], blob[size:]
    return found
def fingerprint(key: bytes) -> str:  # as `ssh-keygen -l` prints it
    return "SHA256:" + base64.b64encode(hashlib.sha256(key).digest()).decode().rstrip("=")
def key_of(line: str) -> bytes:  # of `<type> <base64>`
    return base64.b64decode(line.split(" ")[1], validate=True)
def fits(key: bytes, signature: bytes, message: bytes) -> bool:  # whether an ed25519 signature is of this key
    kind, *rest = strings(key)
    need(kind == b"ssh-ed25519", f"a key of type {kind.decode()}: this program reads ed25519 only")
    try:
        Ed25519PublicKey.from_public_bytes(rest[0]).verify(signature, message)
    except InvalidSignature:
        return False
    return True

def ssh_signer(armored: str, message: bytes, namespace: str, what: str) -> bytes:  # OpenSSH's PROTOCOL.sshsig
    blob = base64.b64decode("".join(armored.split("-----")[2].split()))
    key, space, reserved, algorithm, signature = strings(blob[10:])
    need(space == namespace.encode(), f"{what}: signed for {space.decode()}, not for {namespace}")
    parts = (space, reserved, algorithm, hashlib.sha512(message).digest())
    told = b"SSHSIG" + b"".join(len(part).to_bytes(4, "big") + part for part in parts)
    good = blob[:10] == b"SSHSIG\0\0\0\1" and algorithm == b"sha512" and fits(key, strings(signature)[1], told)
    need(good, f"{what}: its signature does not fit its content")
    return key

def dsse(data: bytes, kind: str, keys: dict[str, bytes], what: str) -> tuple[bytes, str]:  # payload, who signed it
    envelope = json.loads(data)
    payload = base64.b64decode(envelope["payload"], validate=True)
    told = b"DSSEv1 %d %s %d %s" % (len(kind), kind.encode(), len(payload), payload)
    signatures = [base64.b64decode(one["sig"]) for one in envelope["signatures"]]
    signers = [name for name, key in keys.items() if any(fits(key, one, told) for one in signatures)]
    need(signers and envelope["payloadType"] == kind, f"{what}: signed by none of the keys that may sign it")
    return payload, signers[0]

def node(left: bytes, right: bytes) -> bytes:  # of a Merkle tree (RFC 6962)
    return hashlib.sha256(b"\1" + left + right).digest()
def merkle_root(entries: list[bytes]) -> str:  # neighbours are paired, an odd last node is carried up
    level = [hashlib.sha256(b"\0" + entry).digest() for entry in entries] or [hashlib.sha256().digest()]
    while len(level) > 1:
        pairs = [node(level[i], level[i + 1]) for i in range(0, len(level) - 1, 2)]
        level = pairs + level[len(pairs) * 2 :]
    return level[0].hex()

def read_zip(path: Path) -> dict[str, bytes]:  # whatever a zip can hide something in is refused
    data, files = path.read_bytes(), dict[str, bytes]()
    need(data[:4] == b"PK\3\4" and data[-22:-18] == b"PK\5\6", "not a zip file, or something lies before or after it")
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            name, kind = info.orig_filename, (info.external_attr >> 16) & 0o170000
            need(name.isascii() and info.filename == name, f"{name!a}: look-alike characters outside ASCII in a name")
            need(name[:1] not in ("/", "\\") and ".." not in name, f"{name}: leads out of the archive")
            need(kind in (0, 0o100000) and info.compress_type in (0, 8), f"{name}: not a regular file (symlink)")
            need(NAMES.fullmatch(name), f"{name}: an unknown name")
            need(name not in files and len(files) < 4000, f"{name}: is there twice (duplicate)")
            absurd = info.file_size > max(2**24, 200 * info.compress_size)
            need(not absurd, f"{name}: absurd size, {info.file_size} bytes out of {info.compress_size}")
            files[name] = archive.read(info)
    return files

class Evidence:
    """The files, what the caller trusts already, and what the steps established so far."""

    STEPS: tuple[str, ...] = ("log", "checkpoint", "promotion", "tags", "commit", "attestation", "files", "closure",
                              "withdrawals", "weights")

    def __init__(self, files: dict[str, bytes], trust: str, since: bytes | None, weights: Path | None) -> None:
        """Nothing is established yet; a step that needs what an earlier one failed to establish fails too."""
        self.files, self.trust, self.since, self.weights = files, trust, since, weights
        self.tags = sorted(name[5:] for name in files if name.startswith("tags/"))  # `tavr#dev#7` and `tavr@v0.0.3`

    def check_log(self) -> str:
        """Each line follows from the one before, in time too, and is signed by a key that was valid there."""
        data, log, previous, second = self.files["log.jsonl"], list[Any](), "0" * 64, ""
        self.keys = dict[str, Any]()  # fingerprint -> the key and its validity
        need(data.endswith(b"\n"), "the log's last line is cut off")
        for seq, line in enumerate(data[:-1].split(b"\n"), start=1):
            entry, where = parse(line, f"log line {seq}", b""), f"log line {seq}"
            follows = str(entry["seq"]) == str(seq) and entry["previous"] == previous
            need(follows, f"{where}: does not follow from the line before it")
            need(SECOND.fullmatch(entry["at"]) and entry["at"] >= second, f"{where}: dated before its predecessor")
            if seq == 1:
                need(entry["event"] == "key added" and entry["use"] == "log", f"{where}: adds no key of the log")
                self.follow_keys(entry)
            key = self.keys.get(entry["key"], {"use": ""})
            need(self.may_sign(key, seq), f"{where}: signed by {entry['key']}, which is not a valid key there")
            told = canonical({name: value for name, value in entry.items() if name != "signature"})
            good = fits(key_of(key["public_key"]), base64.b64decode(entry["signature"], validate=True), told)
            need(good, f"{where}: its signature does not fit its content")
            previous, second = sha256(line), entry["at"]
            log.append(entry)
            if seq > 1:
                self.follow_keys(entry)
        for key in list(self.keys.values())[1:]:  # a line that is no longer trusted adds nobody
            start = key["added_seq"]
            if not self.may_sign(self.keys[log[start - 1]["key"]], start):
                key.update(revoked_from_seq=start, reason=f"added by line {start}, which is not trusted")
        told = parse(self.files["keys.json"], "keys.json")
        need(told == list(self.keys.values()), "keys.json: not what the log says")
        need(self.trust in ("", log[0]["key"]), f"the log begins with {log[0]['key']}, not with the key you trust")
        self.lines, self.log = data.split(b"\n"), [e for e in log if self.may_sign(self.keys[e["key"]], e["seq"])]
        told = "as you trust" if self.trust else "COMPARE it with what the operator publishes, or give --trust"
        return f"{len(log)} entries ({len(log) - len(self.log)} not trusted), begins with {log[0]['key']}: {told}"

    def may_sign(self, key: Any, seq: int, rotated: bool = False) -> bool:
        """Whether a key may sign line `seq` (`rotated`: or was replaced by then in good order)."""
        if key["use"] != "log" or (rotated and key["reason"] == "rotated"):
            return key["use"] == "log"
        return key["added_seq"] <= seq and (key["revoked_from_seq"] is None or seq < key["revoked_from_seq"])

    def ring(self, seq: int, rotated: bool = False) -> dict[str, bytes]:
        """The keys that may sign at a line, by fingerprint."""
        return {name: key_of(key["public_key"]) for name, key in self.keys.items() if self.may_sign(key, seq, rotated)}

    def follow_keys(self, entry: Any) -> None:
        """What a line says of keys: one is added, replaced, or revoked from some line on, which may lie in the past."""
        seq, event, keys, where = entry["seq"], entry["event"], self.keys, f"log line {entry['seq']}"
        old = keys[entry.get("replaces") or entry["revoked"]] if event in ("key rotated", "key revoked") else {}
        start = entry["from_seq"] if event == "key revoked" else seq + 1
        end = old.get("revoked_from_seq") or start
        need(event != "key rotated" or end > seq, f"{where}: replaces a key that is not valid")
        old.update(revoked_from_seq=min(start, end), reason=entry.get("reason", "rotated"))
        if event in ("key added", "key rotated"):
            name, use = fingerprint(key_of(entry["public_key"])), old.get("use") or entry["use"]
            need(name not in keys, f"{where}: adds a key again")
            keys[name] = {"fingerprint": name, "public_key": entry["public_key"], "use": use, "added_seq": seq,
                          "revoked_from_seq": None, "reason": ""}

    def check_checkpoint(self) -> str:
        """The checkpoint in the file is a head of this log; one that was kept earlier is so too."""
        artifact, last, found = self.tags[0].partition("#")[0], len(self.lines) - 1, list[str]()
        for what, data in (("checkpoint.json", self.files["checkpoint.json"]), ("the kept checkpoint", self.since)):
            if data is not None:
                told = parse(base64.b64decode(json.loads(data)["payload"]), what, b"")
                size = told["size"]
                need(told["origin"] == artifact, f"{what}: of the log of {told['origin']}")
                need(0 < size <= last, f"{what}: is over {size} entries, the log has only {last}: it was cut")
                need(told["head"] == sha256(self.lines[size - 1]), f"{what}: the log was rewritten up to line {size}")
                dsse(data, "application/vnd.tavr.checkpoint+json", self.ring(size), what)
                need(told["at"] >= json.loads(self.lines[size - 1])["at"], f"{what}: dated before what it covers")
                found.append(f"{what}: line {size} of {last} has head {told['head']} at {told['at']}")
        return "; ".join(found)

    def check_promotion(self) -> str:
        """A trusted line of the log promoted this record, by the two tags in the file."""
        data, tags = self.files["record.json"], self.tags
        found = [e for e in self.log if e["event"] == "promoted" and sorted(e["tags"]) == tags]
        need(len(found) == 1, f"no trusted line of the log promoted by the tags {', '.join(tags) or '(none)'}")
        record, told = parse(data, "record.json"), found[0]
        need(sha256(data) == told["record_sha256"], "record.json: not the record that was promoted")
        need(sha256(canonical(record["params"])) == record["params_sha256"], "record.json: digest of its params")
        same = record["run"]["run_id"] == told["run"] and record["run"]["finished_at"] <= told["at"]
        need(same and record["schema_version"] == 2, "record.json: of an unknown form, another run or a later time")
        self.record, self.promoted = record, told
        holds = {e["target"]: e["version"] for e in self.log if e["event"] in ("promoted", "rolled back")}
        self.holds = sorted(stage for stage, version in holds.items() if version == told["version"])
        when = f"{told['version']}, run {told['run']}, for {told['target']} at {told['at']}"
        return f"{when}; record {told['record_sha256']}; holds now: {', '.join(self.holds) or 'nothing'}"

    def check_tags(self) -> str:
        """Both tags name the promoted commit, say what the log says, and are signed by the key of their line."""
        for name in self.promoted["tags"]:
            first = next(e for e in self.log if e["event"] == "promoted" and name in e["tags"])
            key = key_of(self.keys[first["key"]]["public_key"])
            body, mark, armored = self.files[f"tags/{name}"].partition(b"-----BEGIN SSH SIGNATURE-----")
            head, _, message = body.decode().partition("\n\n")
            told = dict(line.split(" ", 1) for line in head.split("\n"))
            facts = dict(line.split(": ", 1) for line in message.split("\n") if ": " in line)
            seal, names = facts.pop("dsse", ""), ("record_sha256", "attestation_sha256", "policy_sha256", "run")
            there = told["object"] == first["commit"] == self.promoted["commit"] and told["tag"] == name
            need(there, f"tag {name}: points to {told['object'][:12]}, not to the promoted commit")
            if mark:
                signer = ssh_signer((mark + armored).decode(), body, "git", f"tag {name}")
                need(signer == key, f"tag {name}: signed by {fingerprint(signer)}, not by the key of its line")
            else:  # made where git could not sign: tag, commit and facts lie sealed in the message
                ring, kind = {first["key"]: key}, "application/vnd.tavr.tag+json"
                one = json.loads(dsse(seal.encode(), kind, ring, f"tag {name}")[0])
                one["facts"]["key"] = first["key"]
                same = (one["tag"], one["commit"], one["facts"]) == (name, told["object"], facts)
                need(same, f"tag {name}: its signature was made for another tag, commit or message")
            same = facts["key"] == first["key"] and all(facts[one.replace("_", "-")] == first[one] for one in names)
            need(same, f"tag {name}: does not say what the log says")
        return " and ".join(self.promoted["tags"])

    def check_commit(self) -> str:
        """The commit is the promoted one, and names the record."""
        raw, commit, record = self.files["commit"], self.promoted["commit"], self.promoted["record_sha256"]
        digest, code = hashlib.sha1 if len(commit) == 40 else hashlib.sha256, self.record["code"]
        named = f"\nrecord-sha256: {record}\n".encode() in raw
        good = digest(b"commit %d\0" % len(raw) + raw).hexdigest() == commit and named
        need(good, "commit: not the promoted commit, or of another record")
        return f"{commit}, made of the code of commit {code['commit']}{' and changes' if code['dirty'] else ''}"

    def check_attestation(self) -> str:
        """The signed in-toto statement is about this record and these model files."""
        data, told, ring = self.files["attestation.json"], self.promoted, self.ring(self.promoted["seq"], rotated=True)
        need(sha256(data) == told["attestation_sha256"], "attestation.json: not the one that was promoted")
        payload, signer = dsse(data, "application/vnd.in-toto+json", ring, "attestation.json")
        said = parse(payload, "attestation.json", b"")
        self.model = {path: digest for path, digest in self.record["outputs"].items() if "/model/" in path}
        subjects = {one["name"]: one["digest"]["sha256"] for one in said["subject"]}
        same = subjects == {**self.model, "record.json": told["record_sha256"]}
        run = said["predicate"]["runDetails"]["metadata"]["invocationId"] == told["run"]
        need(same and run, "attestation.json: its subjects are not this record and its model files")
        return f"{len(subjects)} subjects, signed by {signer}"

    def check_files(self) -> str:
        """Lock files, verdicts and licences are those of the record."""
        record, files = self.record, self.files
        verdicts = {name[9:-5]: data for name, data in files.items() if name.startswith("verdicts/")}
        locks = {"dvc.lock": record["dvc"]["lock_sha256"], "requirements.lock": record["environment"]["lock_sha256"]}
        for name, digest in locks.items():
            need(sha256(files[name]) == digest, f"{name}: differs from the record")
        for stage in {*verdicts, *record["verdicts"]}:
            told = {**parse(verdicts[stage], f"verdicts/{stage}.json"), "sha256": sha256(verdicts[stage])}
            need(told == record["verdicts"].get(stage), f"verdicts/{stage}.json: differs from the record")
        weights = [{name: row[name] for name in ("path", "licence", "sha256")} for row in record["weights"]]
        same = parse(files["licences.json"], "licences.json") == {**record["licences"], "weight_files": weights}
        need(same, "licences.json: differs from the record")
        return f"2 lock files, {len(verdicts)} verdicts, licences"

    def check_closure(self) -> str:
        """Every row is well-formed, and all of them together give the Merkle root of the signed record."""
        told, named = self.record["consumption"], dict[str, list[bytes]]()
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "consumption.sqlite")
            path.write_bytes(self.files[path.name])
            connection = sqlite3.connect(f"{path.as_uri()}?mode=ro&immutable=1", uri=True)
            try:
                content = connection.execute("SELECT type, name FROM sqlite_master").fetchall()
                need(content == [("table", "consumption")], f"{path.name}: holds more than the agreed table")
                wrong = " OR ".join(f"typeof({n}) != '{'integer' if n in NUMBERS else 'text'}'" for n in COLUMNS)
                bad = connection.execute(f"SELECT count(*) FROM consumption WHERE {wrong}").fetchone()  # noqa: S608
                need(bad == (0,), f"{path.name}: a value of a wrong type")
                connection.row_factory = sqlite3.Row
                rows = [dict(row) for row in connection.execute("SELECT * FROM consumption")]
            finally:
                connection.close()
        need(not rows or tuple(rows[0]) == COLUMNS, f"{path.name}: other columns than agreed")
        for row in sorted(rows, key=lambda row: (row["clip_id"], row["stage"])):
            text = "\t".join(map(str, row.values())) + "\n"
            need((text.count("\t"), text.count("\n")) == (12, 1), f"{path.name}: a tab or line end in {text!a}")
            for name in () if text.isascii() else [name for names in SUBJECTS.values() for name in names]:
                need(row[name].isascii(), f"{path.name}: look-alike characters outside ASCII in {name} {row[name]!a}")
            section = {name: row[name] for name in ("source_key", "start_ms", "end_ms")}
            need(sha256(canonical(section)) == row["clip_id"], f"{path.name}: {row['clip_id']} is no such section")
            for subject in subjects_of(row):
                named.setdefault(subject, []).append(text.encode())
        root = merkle_root([f"{subject}\t{sha256(b''.join(named[subject]))}".encode() for subject in sorted(named)])
        same = len(rows) == told["rows"] and told["subjects"] == {"size": len(named), "merkle_root": root}
        need(same, f"{path.name}: a row was added, removed or changed; not the root of the record")
        self.rows = rows
        return f"{len(rows)} rows, {len(named)} subjects, root {root}"

    def check_withdrawals(self) -> str:
        """Today's list grew from each list on the log, and nothing withdrawn before the promotion was consumed."""
        lines, late, told = self.files["withdrawn.jsonl"].splitlines(keepends=True), set[str](), self.promoted
        sizes = {sha256(b"".join(lines[:count])): count for count in range(len(lines) + 1)}
        lists = [(e["seq"], e["withdrawn_sha256"]) for e in self.log if e["event"] == "withdrawn" or e == told]
        for seq, digest in lists:
            need(digest in sizes, f"withdrawn.jsonl: does not begin with the list of log line {seq}; a line is gone")
        judged = max(sizes[digest] for seq, digest in lists if seq <= told["seq"])
        for number, line in enumerate(map(json.loads, lines)):
            found = [row for row in self.rows if line["value"] in [row[name] for name in SUBJECTS[line["kind"]]]]
            if line["kind"] == "source_key" and line.get("start_ms") is not None and line.get("end_ms") is not None:
                found = [row for row in found if row["start_ms"] < line["end_ms"] and line["start_ms"] < row["end_ms"]]
            early = number < judged or line["withdrawn_at"] < told["at"]
            need(not (early and found), f"withdrawn.jsonl: line {number + 1}, from before the promotion, was consumed")
            late |= {row["clip_id"] for row in found}
        self.withdrawn = sorted(late)
        return f"{len(lines)} withdrawals; {len(late)} consumed clips withdrawn since the promotion"

    def check_weights(self) -> str:
        """The files of the model, in a folder, are exactly those of the record."""
        if self.weights is None:
            return "SKIPPED, nobody asked (--weights)"
        bench = self.record["params"]["benchmark"]
        folder = bench["methods"][bench["candidate"]]["model"] + "/"
        root = self.weights / folder if (self.weights / folder).is_dir() else self.weights
        need(not any(path.is_symlink() for path in (root, *root.rglob("*"))), "weights: a symlink among the files")
        wanted = {path[len(folder) :]: digest for path, digest in self.model.items() if path.startswith(folder)}
        found = {p.relative_to(root).as_posix(): sha256(p.read_bytes()) for p in root.rglob("*") if p.is_file()}
        wrong = sorted(name for name in {**wanted, **found} if wanted.get(name) != found.get(name))
        need(wanted and not wrong, f"weights: {', '.join(wrong)} is missing, unknown or not as on the record")
        return f"{len(wanted)} files of {folder}"

def subjects_of(row: Any) -> set[str]:  # whom and what a row is about
    return {f"{kind}\t{row[name]}" for kind, names in SUBJECTS.items() for name in names}

def verify(evidence: Evidence) -> list[Any]:  # every step, with what it established or why it does not hold
    results = list[Any]()
    for step in evidence.STEPS:
        try:
            results.append({"step": step, "ok": True, "reason": getattr(evidence, f"check_{step}")()})
        except Failed as error:
            results.append({"step": step, "ok": False, "reason": str(error)})
        except Exception as error:  # noqa: BLE001 - whatever a forged file provokes is a failure of the file
            later = isinstance(error, AttributeError) and any(not one["ok"] for one in results)
            why = "not checked, for an earlier step failed" if later else f"missing or malformed: {error!r}"
            results.append({"step": step, "ok": False, "reason": why})
    return results

def who_used(evidence: Evidence, asked: str) -> Any:  # what became of a clip, person or source in this model
    kind, _, rest = (part.strip() for part in asked.partition(":"))
    kinds, value = ([KINDS[kind]], rest) if kind in KINDS and rest else (list(SUBJECTS), asked.strip())
    subjects = {f"{one}\t{value}" for one in kinds}
    rows = [row for row in evidence.rows if subjects_of(row) & subjects]
    known, stages = {row[name] for row in evidence.rows for one in SUBJECTS.values() for name in one}, dict[str, Any]()
    texts, known = [text.lower() for text in (value, rest) if len(text) > 5], {one for one in known if len(one) > 5}
    near = [one for one in sorted(known) for text in texts if text in one.lower() or one.lower() in text]
    if near and not rows:  # cut off, with something before or after it, in other letters, or of another kind
        return {"asked": asked, "error": f"NOT ANSWERED: not an id as it stands here; do you mean {near[0]!a}?"}
    for stage in sorted({row["stage"] for row in rows}):
        mine = [row for row in rows if row["stage"] == stage]
        span = {"first_step": min(r["first_step"] for r in mine), "last_step": max(r["last_step"] for r in mine)}
        stages[stage] = {**span, "clips": len(mine), "samples": sum(row["samples"] for row in mine)}
    return {"asked": value, "searched_as": kinds, "used": bool(rows), "stages": stages, "holds": evidence.holds,
            "proof": f"all {len(evidence.rows)} rows of the closure were checked against the root in the signed record"}

def main(kind: type[Evidence] = Evidence) -> int:
    parser = argparse.ArgumentParser(description="Verify a TAVR evidence file, and ask it who was used.")
    parser.add_argument("file", type=Path)
    parser.add_argument("--trust", default="", metavar="FINGERPRINT", help="the key that the log must begin with")
    parser.add_argument("--since", type=Path, metavar="CHECKPOINT", help="one you kept: nothing before has changed")
    parser.add_argument("--who-used", default="", metavar="[KIND:]ID", help="a clip, person, source or file's sha256")
    parser.add_argument("--weights", type=Path, metavar="DIR", help="the model's files")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    if not asked.who_used.isascii():
        parser.error(f"--who-used {asked.who_used!a}: ids are ASCII; these characters only look like it")
    try:
        evidence = kind(read_zip(asked.file), asked.trust, asked.since and asked.since.read_bytes(), asked.weights)
        steps = verify(evidence)
    except OSError as error:
        parser.error(str(error))
    except Exception as error:  # noqa: BLE001 - whatever a forged file provokes is a failure of the file
        evidence, steps = None, [{"step": "container", "ok": False, "reason": str(error)}]
    answer: dict[str, Any] = {"state": "failed", "steps": steps}
    if evidence and all(step["ok"] for step in steps):
        answer |= {"state": "inputs withdrawn" if evidence.withdrawn else "verified", "withdrawn": evidence.withdrawn}
        answer |= {"who_used": who_used(evidence, asked.who_used)} if asked.who_used else {}
    lines = [f"{'ok    ' if step['ok'] else 'FAILED'} {step['step']}: {step['reason']}" for step in steps]
    lines += [json.dumps(answer["who_used"], indent=2)] if "who_used" in answer else []
    lines += [f"clip {clip} was withdrawn since the promotion" for clip in answer.get("withdrawn", ())]
    whose = "" if asked.trust or answer["state"] == "failed" else " (whose it is, only --trust tells)"
    print(json.dumps(answer, indent=2) if asked.json else "\n".join([*lines, answer["state"].upper() + whose]))
    return 4 if answer["state"] == "failed" else 2 if "error" in answer.get("who_used", {}) else 0

if __name__ == "__main__":
    sys.exit(main())
