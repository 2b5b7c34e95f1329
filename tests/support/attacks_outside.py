"""Attacks of an outsider, who edits the evidence and holds no key of ours."""

import json
import re
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from attack import THIEF, WITHDRAWAL, Attack, edited, relogged, replaced, swap_lines, with_rows
from evidence_world import LATE, Json, Key, World, checkpoint, key_list, policy_text, row, verdict_of
from tavr_records.ids import canonical_json, sha256_bytes


def edited_metrics(tmp: Path) -> Attack:
    def better(record: Json) -> None:
        record["benchmark"]["scores"]["ours"]["pair0"]["id_target"] = 0.99

    return Attack(edited(World().files(), "record.json", better), "record.json: not the record that was promoted")


def edited_output_digest(tmp: Path) -> Attack:
    def other(record: Json) -> None:
        record["outputs"]["data/stage3/model/model.safetensors"] = "0" * 64

    return Attack(edited(World().files(), "record.json", other), "record.json: not the record that was promoted")


def record_with_spaces(tmp: Path) -> Attack:
    files = World().files()
    spaced = json.dumps(json.loads(files["record.json"])).encode() + b"\n"
    return Attack({**files, "record.json": spaced}, "record.json: not canonical JSON")


def record_with_doubled_key(tmp: Path) -> Attack:
    files = replaced(World().files(), "record.json", b'{"benchmark":', b'{"benchmark":null,"benchmark":')
    return Attack(files, "record.json: not canonical JSON")


def removed_ledger_row(tmp: Path) -> Attack:
    world = World()
    return Attack(with_rows(world.files(), world.rows[1:]), "a row was added, removed or changed")


def added_ledger_row(tmp: Path) -> Attack:
    world = World()
    rows = [*world.rows, row("s99", "stage1", "person99")]
    return Attack(with_rows(world.files(), rows), "a row was added, removed or changed")


def changed_person(tmp: Path) -> Attack:
    world = World()
    rows = [{**one, "person_id": "nobody" if one["person_id"] == "person0" else one["person_id"]} for one in world.rows]
    return Attack(with_rows(world.files(), rows), "a row was added, removed or changed")


def changed_last_step(tmp: Path) -> Attack:
    world = World()
    rows = [{**world.rows[0], "last_step": 1}, *world.rows[1:]]
    return Attack(with_rows(world.files(), rows), "a row was added, removed or changed")


def view_in_database(tmp: Path) -> Attack:
    files = World().files()
    path = tmp / "x.sqlite"
    path.write_bytes(files["consumption.sqlite"])
    connection = sqlite3.connect(path)
    connection.execute("ALTER TABLE consumption RENAME TO hidden")
    connection.execute("CREATE VIEW consumption AS SELECT * FROM hidden WHERE person_id != 'person0'")
    connection.commit()
    connection.close()
    return Attack({**files, "consumption.sqlite": path.read_bytes()}, "holds more than the agreed table")


def moved_tag(tmp: Path) -> Attack:
    files = World().files()
    commit = json.loads(files["log.jsonl"].splitlines()[-1])["commit"].encode()
    return Attack(replaced(files, "tags/tavr@v0.0.1", commit, b"f" * 40), "tag tavr@v0.0.1: points to ffffffffffff")


def edited_tag_message(tmp: Path) -> Attack:
    files = replaced(World().files(), "tags/tavr#dev#1", b"about tavr#dev#1", b"about tavr#dev#2")
    return Attack(files, "tags: tag tavr#dev#1: .*does not fit")


def renamed_tag(tmp: Path) -> Attack:
    files = World().files()
    files["tags/tavr#prod#1"] = files.pop("tags/tavr#dev#1")
    return Attack(files, "no trusted line of the log promoted by the tags")


def replayed_signature(tmp: Path) -> Attack:
    files = World().files()
    lines = [json.loads(line) for line in files["log.jsonl"].splitlines()]
    lines[-1]["signature"] = lines[-2]["signature"]
    log = b"".join(canonical_json(line) + b"\n" for line in lines)
    return Attack({**files, "log.jsonl": log}, "3: its signature does not fit|line 3: its signature does not fit")


def tag_signature_replayed(tmp: Path) -> Attack:
    files = World().files()
    mark = b"-----BEGIN SSH SIGNATURE-----"
    other = files["tags/tavr#dev#1"].partition(mark)[2]
    files["tags/tavr@v0.0.1"] = files["tags/tavr@v0.0.1"].partition(mark)[0] + mark + other
    return Attack(files, "tag tavr@v0.0.1: .*does not fit")


def re_ordered_log(tmp: Path) -> Attack:
    files = World().files()
    return Attack(
        {**files, "log.jsonl": swap_lines(files["log.jsonl"], 1, 2)}, "2: does not follow from the line before"
    )


def changed_log_line(tmp: Path) -> Attack:
    files = replaced(World().files(), "log.jsonl", b'"assurance":"ssh-signed"', b'"assurance":"ssh-signe_"')
    return Attack(files, "2: its signature does not fit|3: does not follow")


def truncated_log(tmp: Path) -> Attack:
    world = World(after=[(World().key, "rolled back", {"target": "dev", "version": "v0.0.0"})])
    files = world.files()
    log = b"".join(files["log.jsonl"].splitlines(keepends=True)[:-1])
    return Attack({**files, "log.jsonl": log, "keys.json": key_list(log)}, "checkpoint.json: .*(cut|gone)")


def log_cut_inside_a_line(tmp: Path) -> Attack:
    files = World().files()
    return Attack({**files, "log.jsonl": files["log.jsonl"][:-9]}, "last line is cut off")


def forged_log_of_a_thief(tmp: Path) -> Attack:
    honest = World()
    return Attack(World(key=THIEF).files(), "not with the key you trust", trust=honest.key.fingerprint)


def thief_signs_into_the_log(tmp: Path) -> Attack:
    world = World()

    def append(entries: list[tuple[Key, str, Json]]) -> None:
        entries.append((THIEF, "rejected", {"at": LATE}))

    files = relogged(world.files(), world, append)
    return Attack(files, f"4: signed by {re.escape(THIEF.fingerprint)}")


def edited_key_validity(tmp: Path) -> Attack:
    def longer(keys: Any) -> None:
        keys[0]["revoked_from_seq"] = 99

    return Attack(edited(World().files(), "keys.json", longer), "keys.json: not what the log says")


def swapped_key(tmp: Path) -> Attack:
    def other(keys: Any) -> None:
        keys[0]["public_key"] = THIEF.line

    return Attack(edited(World().files(), "keys.json", other), "keys.json: not what the log says")


def checkpoint_of_a_thief(tmp: Path) -> Attack:
    files = World().files()
    return Attack({**files, "checkpoint.json": checkpoint(files["log.jsonl"], THIEF)}, "checkpoint.json: .*signed by")


def edited_verdict(tmp: Path) -> Attack:
    return Attack({**World().files(), "verdicts/pairs.json": verdict_of("pairs", 7)}, "verdicts/pairs.json: differs")


def removed_verdict(tmp: Path) -> Attack:
    files = World().files()
    del files["verdicts/pairs.json"]
    return Attack(files, "missing or malformed: KeyError.*pairs")


def swapped_dvc_lock(tmp: Path) -> Attack:
    return Attack({**World().files(), "dvc.lock": b"schema: '2.0'\nstages: {}\n"}, "dvc.lock: differs from the record")


def swapped_requirements(tmp: Path) -> Attack:
    return Attack({**World().files(), "requirements.lock": b"numpy==1\n"}, "requirements.lock: differs")


def edited_licences(tmp: Path) -> Attack:
    def free(told: Json) -> None:
        told["weight_files"][0]["licence"] = "CC0-1.0"

    return Attack(edited(World().files(), "licences.json", free), "licences.json: differs from the record")


def attestation_of_another_run(tmp: Path) -> Attack:
    other = World(run="20260101-00000002").files()
    return Attack({**World().files(), "attestation.json": other["attestation.json"]}, "attestation.json: not the one")


def commit_of_another_run(tmp: Path) -> Attack:
    other = World(run="20260101-00000002").files()
    return Attack({**World().files(), "commit": other["commit"]}, "commit: not the promoted commit")


def stale_policy(tmp: Path) -> Attack:
    old = policy_text(approvals=0)
    told = canonical_json(yaml.safe_load(old))
    return Attack({**World().files(), "policy.yaml": old, "policy.json": told}, "policy.json: not the policy")


def policy_weakened_in_json_only(tmp: Path) -> Attack:
    def weaker(policy: Json) -> None:
        policy["targets"]["dev"]["approvals"] = 0

    return Attack(edited(World().files(), "policy.json", weaker, b""), "policy.json: not the policy")


def policy_swapped_in_yaml_only(tmp: Path) -> Attack:
    return Attack({**World().files(), "policy.yaml": policy_text(approvals=0)}, "policy.yaml: not the policy")


def approvers_swapped(tmp: Path) -> Attack:
    line = f"bea@example.org {THIEF.line}\n".encode()
    return Attack({**World().files(), "approvers": line}, "approvals: approvers, .*: not those of the promotion")


def emptied_withdrawals(tmp: Path) -> Attack:
    line = canonical_json(WITHDRAWAL) + b"\n"
    told = {
        "kind": "person_id",
        "value": "person0",
        "withdrawn_sha256": sha256_bytes(line),
        "at": "2026-03-01T00:00:00Z",
    }
    world = World(later=[WITHDRAWAL], after=[(Key(1), "withdrawn", told)])
    return Attack({**world.files(), "withdrawn.jsonl": b""}, "does not begin with the list of log line 4")


def emptied_judged_withdrawals(tmp: Path) -> Attack:
    world = World(judged=[{**WITHDRAWAL, "value": "somebody"}])
    return Attack({**world.files(), "withdrawn.jsonl": b""}, "does not begin with the list of log line 3")


ATTACKS: dict[str, Callable[[Path], Attack]] = {
    attack.__name__: attack
    for attack in (
        edited_metrics,
        edited_output_digest,
        record_with_spaces,
        record_with_doubled_key,
        removed_ledger_row,
        added_ledger_row,
        changed_person,
        changed_last_step,
        view_in_database,
        moved_tag,
        edited_tag_message,
        renamed_tag,
        replayed_signature,
        tag_signature_replayed,
        re_ordered_log,
        changed_log_line,
        truncated_log,
        log_cut_inside_a_line,
        forged_log_of_a_thief,
        thief_signs_into_the_log,
        edited_key_validity,
        swapped_key,
        checkpoint_of_a_thief,
        edited_verdict,
        removed_verdict,
        swapped_dvc_lock,
        swapped_requirements,
        edited_licences,
        attestation_of_another_run,
        commit_of_another_run,
        stale_policy,
        policy_weakened_in_json_only,
        policy_swapped_in_yaml_only,
        approvers_swapped,
        emptied_withdrawals,
        emptied_judged_withdrawals,
    )
}
