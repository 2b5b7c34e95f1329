"""Promotion: signed tags plain `gto` reads, one version a commit, a refusal with every reason, a log that chains."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from tavr_lineage import registry
from tavr_lineage.case import open_case
from tavr_lineage.promotion import promote, rollback
from tavr_lineage.registry import find_version, holder, list_assignments, list_versions, tag_facts, verify_tag
from tavr_lineage.trust.custody import add_key
from tavr_lineage.trust.keys import PublicKey, signing_key
from tavr_lineage.trust.log import read_log
from tavr_records.errors import InputError, RefusedError, VerificationError
from tavr_records.ids import canonical_json, sha256_bytes

from .conftest import CLIPS, Finish, git

FIRST, SECOND = "20260101-00000001", "20260102-00000002"


def test_a_good_run_is_promoted_by_two_signed_tags_and_a_log_line(finish: Finish, checkout: Path) -> None:
    candidate = finish(FIRST)
    promotion = promote(checkout, FIRST, "dev")
    assert promotion.version == "v0.0.1"
    assert promotion.tags == ("tavr@v0.0.1", "tavr#dev#1")
    key = signing_key(checkout)
    for tag in promotion.tags:
        assert git(checkout, "rev-parse", f"{tag}^{{commit}}") == candidate.commit
        assert verify_tag(checkout, tag, key) == "ssh"
        assert tag_facts(checkout, tag)["record-sha256"] == candidate.record_sha256
    added, entry = read_log(checkout)
    assert (added["event"], added["public_key"], added["use"]) == ("key added", key.public, "log")
    assert entry["event"] == "promoted"
    attestation = (git(checkout, "show", f"{candidate.commit}:attestation.json") + "\n").encode()
    policy = (checkout / "conf/policy.yaml").read_bytes()
    assert {name: entry[name] for name in entry if name.endswith("_sha256")} == {
        "record_sha256": candidate.record_sha256,
        "attestation_sha256": sha256_bytes(attestation),
        "policy_sha256": sha256_bytes(policy),
        "policy_json_sha256": sha256_bytes(canonical_json(yaml.safe_load(policy))),
        "withdrawn_sha256": sha256_bytes(b""),
    }
    assert set(entry["intervals"]) == {"benchmark"}
    interval = entry["intervals"]["benchmark"]
    assert (interval["metric"], interval["pairs"]) == ("id_target", 4)
    assert 0 < interval["low"] <= interval["mean"] <= interval["high"]
    assert (entry["version"], entry["tags"]) == ("v0.0.1", list(promotion.tags))
    assert git(checkout, "status", "--porcelain", "--", "conf", "audit") == "", "the operator's files are not touched"
    assert git(checkout, "branch", "--show-current") == "main"


def test_plain_gto_reads_the_registry(finish: Finish, checkout: Path) -> None:
    finish(FIRST)
    promote(checkout, FIRST, "dev")
    finish(SECOND, gain=0.4)
    promote(checkout, SECOND, "dev")

    def gto(*arguments: str) -> str:
        command = [str(Path(sys.executable).with_name("gto")), *arguments]
        return subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=True).stdout

    shown = json.loads(gto("show", "--json"))["tavr"]
    assert shown["version"] == "v0.0.2"
    assert shown["stage"]["dev"] == "v0.0.2"
    events = json.loads(gto("history", "tavr", "--json"))
    assert sorted(event["event"] for event in events if event["event"] != "commit") == [
        "assignment", "assignment", "registration", "registration",
    ]  # fmt: skip


def test_without_ssh_keygen_the_signature_is_in_the_message(
    finish: Finish, checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish(FIRST)
    monkeypatch.setattr(registry.shutil, "which", lambda _: None)
    promotion = promote(checkout, FIRST, "dev")
    key = signing_key(checkout)
    assert [verify_tag(checkout, tag, key) for tag in promotion.tags] == ["dsse", "dsse"]
    text = git(checkout, "cat-file", "tag", "tavr@v0.0.1")
    body = text.split("\n\n", 1)[1].replace(f"run: {FIRST}", f"run: {SECOND}")
    git(checkout, "tag", "-d", "tavr@v0.0.1")
    git(checkout, "-c", "user.name=x", "-c", "user.email=x@x", "tag", "-a", "-m", body, "tavr@v0.0.1", promotion.commit)
    with pytest.raises(VerificationError, match="made for another tag"):
        verify_tag(checkout, "tavr@v0.0.1", key)


def test_a_tag_of_another_key_is_not_ours(
    finish: Finish, checkout: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    finish(FIRST)
    ours = signing_key(checkout)
    other = tmp_path / "other"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(other)], check=True)
    monkeypatch.setenv("TAVR_SIGNING_KEY", str(other))
    with pytest.raises(RefusedError, match=r"attestation\.json: signed by none of the known keys"):
        promote(checkout, FIRST, "dev")
    monkeypatch.delenv("TAVR_SIGNING_KEY")
    with pytest.raises(InputError, match=r"dev_ed25519: SHA256:\S+ is not on the audit log; let a holder"):
        promote(checkout, FIRST, "dev")
    monkeypatch.setenv("TAVR_SIGNING_KEY", str(other))
    add_key(checkout, PublicKey(ours.public), "log")
    promotion = promote(checkout, FIRST, "dev")
    assert promotion.key != ours.fingerprint
    with pytest.raises(VerificationError, match=f"tag tavr@v0.0.1: signed by {re.escape(promotion.key)}"):
        verify_tag(checkout, "tavr@v0.0.1", ours)
    monkeypatch.setenv("TAVR_SIGNING_KEY", str(tmp_path / "missing"))
    with pytest.raises(InputError, match="missing: cannot be used to sign"):
        signing_key(checkout)


def test_the_development_key_is_private_and_made_once(checkout: Path) -> None:
    key = signing_key(checkout)
    assert key.path.stat().st_mode & 0o077 == 0
    assert checkout / ".git" in key.path.parents
    assert signing_key(checkout).fingerprint == key.fingerprint
    listed = subprocess.run(["ssh-keygen", "-lf", str(key.path)], capture_output=True, text=True, check=True).stdout
    assert key.fingerprint in listed


def test_a_refusal_lists_every_reason_and_is_logged(finish: Finish, checkout: Path) -> None:
    def spoil(worktree: Path) -> None:
        (worktree / "reports/latents/verdict.json").unlink()

    finish(FIRST, gain=-0.1, spoil=spoil, dirty_paths=("packages/x.py",))
    with pytest.raises(RefusedError) as caught:
        promote(checkout, FIRST, "dev")
    for word in ("no verdict of check_latents", "id_target of ours minus base", "packages/x.py"):
        assert word in str(caught.value)
    assert list_versions(checkout, "tavr") == []
    _, entry = read_log(checkout)
    assert entry["event"] == "refused"
    assert len(entry["reasons"]) == 3


def test_a_commit_has_one_version(finish: Finish, checkout: Path) -> None:
    finish(FIRST)
    promote(checkout, FIRST, "dev")
    again = promote(checkout, "v0.0.1", "dev")
    assert again.version == "v0.0.1"
    assert [version.label for version in list_versions(checkout, "tavr")] == ["v0.0.1"]
    assert len(list_assignments(checkout, "tavr")) == 2


def test_a_worse_challenger_does_not_replace_the_champion(finish: Finish, checkout: Path) -> None:
    finish(FIRST, gain=0.4)
    promote(checkout, FIRST, "dev")
    finish(SECOND, gain=0.2)
    with pytest.raises(RefusedError, match="champion: id_target is clearly worse"):
        promote(checkout, SECOND, "dev")
    held = holder(checkout, "tavr", "dev")
    assert held is not None
    assert held.label == "v0.0.1"


def test_rollback_is_one_more_signed_tag(finish: Finish, checkout: Path) -> None:
    finish(FIRST)
    promote(checkout, FIRST, "dev")
    finish(SECOND, gain=0.4)
    promote(checkout, SECOND, "dev")
    back = rollback(checkout, "dev", "v0.0.1", "faces flicker")
    assert back.tags[1] == "tavr#dev#3"
    assert verify_tag(checkout, "tavr#dev#3", signing_key(checkout)) == "ssh"
    held = holder(checkout, "tavr", "dev")
    assert held is not None
    assert held.label == "v0.0.1"
    assert [entry["event"] for entry in read_log(checkout)] == ["key added", "promoted", "promoted", "rolled back"]
    with pytest.raises(InputError, match=r"v0\.0\.1 never held prod"):
        rollback(checkout, "prod", "v0.0.1", "why not")
    with pytest.raises(InputError, match="no such version"):
        find_version(checkout, "tavr", "v0.0.9")


def test_a_withdrawal_after_the_run_counts(finish: Finish, checkout: Path) -> None:
    finish(FIRST)
    line = {"kind": "sha256", "value": CLIPS[0].clip_sha256, "reason": "asked", "withdrawn_at": "2026-02-01"}
    (checkout / "audit/withdrawn.jsonl").write_text(json.dumps(line) + "\n")
    (reason,) = open_case(checkout, FIRST, "dev").decision.reasons
    assert reason == f"withdrawal: withdrawn clip {CLIPS[0].clip_id[:12]} is in a training ledger"


def cached_model(checkout: Path) -> Path:
    lock = yaml.safe_load(git(checkout, "show", f"run/{FIRST}:dvc.lock"))
    cache = checkout / ".dvc/cache/files/md5"
    digest = lock["stages"]["stage3"]["outs"][0]["md5"]
    entries = json.loads((cache / digest[:2] / digest[2:]).read_bytes())
    md5 = next(entry["md5"] for entry in entries if entry["relpath"] == "model/model.safetensors")
    return cache / md5[:2] / md5[2:]


def test_swapped_and_missing_weights_are_found(finish: Finish, checkout: Path) -> None:
    finish(FIRST)
    stored = cached_model(checkout)
    stored.write_bytes(b"other weights")
    (reason,) = open_case(checkout, FIRST, "dev").decision.reasons
    assert reason == "digests: data/stage3/model/model.safetensors in the DVC cache differs from the record's sha256"
    stored.unlink()
    (reason,) = open_case(checkout, FIRST, "dev").decision.reasons
    assert "data/stage3/model/model.safetensors is not in the DVC cache" in reason
    shutil.rmtree(checkout / ".dvc/cache")
    assert len(open_case(checkout, FIRST, "dev").decision.reasons) > 5


def test_a_commit_whose_files_were_changed_after_the_record_is_refused(finish: Finish, checkout: Path) -> None:
    finish(FIRST)
    worktree = checkout / ".runs" / FIRST
    (worktree / "conf/extra.yaml").write_text("a: 1\n")
    verdict = worktree / "reports/pairs/verdict.json"
    verdict.write_bytes(verdict.read_bytes().replace(b'"observed":6', b'"observed":7'))
    git(worktree, "add", "-A")
    git(worktree, "-c", "user.name=x", "-c", "user.email=x@x", "commit", "--quiet", "--amend", "--no-edit")
    reasons = open_case(checkout, FIRST, "dev").decision.reasons
    assert "digests: reports/pairs/verdict.json of the commit differs from the record" in reasons
    assert "digests: the commit's files are not the tree the record names" in reasons


def test_names_that_lead_nowhere(finish: Finish, checkout: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such commit, branch, tag or run"):
        promote(checkout, "20990101-00000000", "dev")
    with pytest.raises(InputError, match=r"carries no record.json"):
        promote(checkout, "main", "dev")
    with pytest.raises(InputError, match="no git repository"):
        promote(tmp_path, FIRST, "dev")
    finish(FIRST)
    (checkout / "conf/policy.yaml").write_text("{}")
    with pytest.raises(InputError, match="uncommitted changes"):
        promote(checkout, FIRST, "dev")
