"""Approvals signed with SSH: counted for one record and one target, of a named person, never the requester's own."""

import json
import subprocess
from pathlib import Path

import pytest
import yaml
from tavr_lineage.case import open_case
from tavr_lineage.promotion import approve, promote
from tavr_lineage.trust.allowed_signers import APPROVERS
from tavr_lineage.trust.approvals import SignedApproval, approval_payload, approver_of, sign_approval
from tavr_lineage.trust.log import append, read_log
from tavr_lineage.trust.people import is_same_person
from tavr_records.errors import InputError, RefusedError

from .conftest import Finish, git

FIRST, SECOND = "20260101-00000001", "20260102-00000002"
WHEN = "2026-01-02T00:00:00Z"
ANNA = "anna@example.org"


def make_ssh_key(path: Path) -> Path:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(path)], check=True)
    return path


def commit(checkout: Path) -> None:
    git(checkout, "add", "-A", "conf")
    git(checkout, "-c", "user.name=x", "-c", "user.email=x@x", "commit", "--quiet", "-m", "conf")


def appoint(checkout: Path, **keys: Path) -> None:
    """Commit approvers, and a policy whose staging asks one ssh-signed approval and takes the test's licences."""
    lines = [
        f'{name}@example.org namespaces="tavr-approval" {path.with_suffix(".pub").read_text()}'
        for name, path in keys.items()
    ]
    (checkout / APPROVERS).write_text("".join(lines))
    policy = yaml.safe_load((checkout / "conf/policy.yaml").read_text())
    policy["targets"]["staging"]["approval_assurance"] = ["ssh-signed"]
    (checkout / "conf/policy.yaml").write_text(yaml.safe_dump(policy))
    commit(checkout)


@pytest.fixture
def anna(checkout: Path, tmp_path: Path) -> Path:
    key = make_ssh_key(tmp_path / "anna")
    appoint(checkout, anna=key)
    return key


def signed(key: Path, record_sha256: str, target: str = "staging", approver: str = ANNA) -> SignedApproval:
    return sign_approval(approval_payload(record_sha256, target, approver, WHEN), key)


def test_a_signed_approval_lets_a_candidate_through(finish: Finish, checkout: Path, anna: Path) -> None:
    candidate = finish(FIRST)
    refused = "approval: 0 of 1 approvals (ssh-signed, by someone other than the requester)"
    assert open_case(checkout, FIRST, "staging").decision.reasons == (refused,)
    entry = approve(checkout, FIRST, "staging", signed(anna, candidate.record_sha256))
    told = {"run", "target", "record_sha256", "approver", "assurance", "payload", "approval_signature"}
    assert told <= set(entry)
    assert (entry["approver"], entry["assurance"], entry["target"]) == (ANNA, "ssh-signed", "staging")
    assert promote(checkout, FIRST, "staging").version == "v0.0.1"
    assert read_log(checkout)[-1]["approvals"] == [f"{ANNA} (ssh-signed)"]


def test_what_ssh_keygen_verifies(finish: Finish, checkout: Path, anna: Path, tmp_path: Path) -> None:
    """The signature is plain OpenSSH's: its own tool accepts it, and one made with it alone is taken."""
    candidate = finish(FIRST)
    payload = tmp_path / "payload.json"
    payload.write_bytes(approval_payload(candidate.record_sha256, "staging", ANNA, WHEN).encode())
    subprocess.run(["ssh-keygen", "-q", "-Y", "sign", "-n", "tavr-approval", "-f", str(anna), str(payload)], check=True)
    signature = payload.with_name("payload.json.sig")
    command = [
        "ssh-keygen",
        "-Y",
        "verify",
        "-n",
        "tavr-approval",
        "-f",
        str(checkout / APPROVERS),
        "-I",
        ANNA,
        "-s",
        str(signature),
    ]
    subprocess.run(command, input=payload.read_bytes(), check=True, capture_output=True)
    approve(checkout, FIRST, "staging", SignedApproval(payload.read_text(), signature.read_text()))
    assert open_case(checkout, FIRST, "staging").decision.allow


def test_an_approval_counts_for_its_record_and_target_only(finish: Finish, checkout: Path, anna: Path) -> None:
    first, second = finish(FIRST), finish(SECOND, gain=0.4)
    good = signed(anna, first.record_sha256)
    approve(checkout, FIRST, "staging", good)
    with pytest.raises(
        RefusedError, match=rf"approves the record {first.record_sha256[:12]}, not {second.record_sha256[:12]}"
    ):
        approve(checkout, SECOND, "staging", good)
    with pytest.raises(RefusedError, match="approves it for staging, not for prod"):
        approve(checkout, FIRST, "prod", good)
    # Replayed past `approve`, by somebody who may write to the log:
    facts = {"run": SECOND, "target": "staging", "record_sha256": second.record_sha256, "approver": ANNA}
    facts |= {"assurance": "ssh-signed", "payload": good.payload, "approval_signature": good.signature}
    append(checkout, "approved", WHEN, facts)
    reasons = open_case(checkout, SECOND, "staging").decision.reasons
    assert reasons[0].startswith("approval: 0 of 1 approvals")
    assert reasons[1].startswith(
        f"approval: not counted: line 3: {ANNA}: approves the record {first.record_sha256[:12]}"
    )
    assert open_case(checkout, FIRST, "staging").decision.allow


def test_forged_approvals_are_refused(finish: Finish, checkout: Path, anna: Path, tmp_path: Path) -> None:
    record = finish(FIRST).record_sha256
    mallory = make_ssh_key(tmp_path / "mallory")
    with pytest.raises(RefusedError, match=f"{ANNA}: conf/approvers gives them no key SHA256:"):
        approve(checkout, FIRST, "staging", signed(mallory, record))
    good = signed(anna, record)
    with pytest.raises(RefusedError, match=r"eve@example.org: conf/approvers gives them no key"):
        approve(checkout, FIRST, "staging", signed(anna, record, approver="eve@example.org"))
    changed = SignedApproval(good.payload.replace(WHEN, "2026-01-03T00:00:00Z"), good.signature)
    with pytest.raises(RefusedError, match="does not fit what is signed"):
        approve(checkout, FIRST, "staging", changed)
    for payload in (
        good.payload + "\n",
        "{}",
        "[",
        json.dumps(json.loads(good.payload)),
        good.payload.replace(WHEN, "2026-01-02"),
    ):
        with pytest.raises(RefusedError, match="not an approval"):
            approve(checkout, FIRST, "staging", SignedApproval(payload, good.signature))
    with pytest.raises(InputError, match="no target of the policy"):
        approve(checkout, FIRST, "moon", good)
    assert len(read_log(checkout)) == 0


def test_an_approver_who_left_counts_no_more(finish: Finish, checkout: Path, anna: Path) -> None:
    approve(checkout, FIRST, "staging", signed(anna, finish(FIRST).record_sha256))
    (checkout / APPROVERS).write_text("")
    assert open_case(checkout, FIRST, "staging").decision.allow, "what is not committed does not count"
    commit(checkout)
    reasons = open_case(checkout, FIRST, "staging").decision.reasons
    assert reasons[1].startswith(f"approval: not counted: line 2: {ANNA}: conf/approvers gives them no key")


@pytest.mark.parametrize("requester", ["Anna <ANNA@Example.org>", "anna@example.org", "ANNA@EXAMPLE.ORG <a@b>"])
def test_nobody_approves_what_they_asked_for(finish: Finish, checkout: Path, anna: Path, requester: str) -> None:
    record = finish(FIRST, requested_by=requester).record_sha256
    with pytest.raises(RefusedError, match=f"{ANNA}: is the requester"):
        approve(checkout, FIRST, "staging", signed(anna, record))


def test_who_is_the_same_person() -> None:
    assert is_same_person("Anna Ek <anna@x.org>", "ANNA@x.org")
    assert is_same_person("Anna  Ek", "anna ek <other@x.org>")
    assert is_same_person("\uff41\uff4e\uff4e\uff41@x.org", "anna@x.org")  # full width
    assert is_same_person("an\u200bna@x.org", "anna@x.org")  # a space nobody sees
    assert is_same_person("STRASSE <s@x>", "straße")
    assert not is_same_person("\u0430nna@x.org", "anna@x.org")  # a Cyrillic letter: another name, and no approver's
    assert not is_same_person("", " ")
    assert not is_same_person("Anna <a@x>", "Bert <b@x>")


def test_whose_key_it_is(checkout: Path, anna: Path, tmp_path: Path) -> None:
    assert approver_of(checkout, anna) == approver_of(checkout, anna.with_suffix(".pub")) == ANNA
    anna.with_suffix(".pub").rename(tmp_path / "kept.pub")
    assert approver_of(checkout, anna) == ANNA
    with pytest.raises(InputError, match=r"--as bert@example.org: the key is of anna@example.org"):
        approver_of(checkout, anna, "bert@example.org")
    with pytest.raises(InputError, match="is nobody's in the committed conf/approvers"):
        approver_of(checkout, make_ssh_key(tmp_path / "other"))
    (tmp_path / "kept.pub").rename(anna.with_suffix(".pub"))
    appoint(checkout, anna=anna, ann=anna)
    with pytest.raises(InputError, match="say as whom"):
        approver_of(checkout, anna)
    with pytest.raises(InputError, match="name an SSH key you may use"):
        sign_approval("{}", tmp_path / "missing")
