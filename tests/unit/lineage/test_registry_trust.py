"""The log is what counts: moved, missing and foreign tags move nothing; what is rejected or withdrawn never returns."""

import json
import subprocess
from pathlib import Path

import pytest
import yaml
from tavr_lineage.case import open_case
from tavr_lineage.promotion import promote, reject, rollback
from tavr_lineage.registry import Tag, create_tag, holder, unlogged_tags
from tavr_lineage.trust.allowed_signers import WITNESSES
from tavr_lineage.trust.checkpoint_files import log_checkpoint, take_checkpoint, witness_checkpoint
from tavr_lineage.trust.custody import rotate_key
from tavr_lineage.trust.keys import make_key, signing_key
from tavr_lineage.trust.log import open_log, read_log
from tavr_records.errors import InputError, RefusedError, VerificationError

from .conftest import CLIPS, Finish, git
from .test_approvals import commit

FIRST, SECOND = "20260101-00000001", "20260102-00000002"


@pytest.fixture
def two(finish: Finish, checkout: Path) -> Path:
    """Two versions that held dev one after the other."""
    finish(FIRST)
    promote(checkout, FIRST, "dev")
    finish(SECOND, gain=0.4)
    promote(checkout, SECOND, "dev")
    return checkout


def held(checkout: Path) -> str:
    version = holder(checkout, "tavr", "dev")
    return version.label if version is not None else ""


def withdraw(checkout: Path, clip_id: str) -> None:
    line = {"kind": "clip_id", "value": clip_id, "reason": "asked", "withdrawn_at": "2026-02-01"}
    (checkout / "audit/withdrawn.jsonl").write_text(json.dumps(line) + "\n")


def test_git_itself_verifies_the_tags(two: Path, tmp_path: Path) -> None:
    allowed = tmp_path / "allowed"
    allowed.write_text(f"tavr {signing_key(two).public}\n")
    trust = ("-c", "gpg.format=ssh", "-c", f"gpg.ssh.allowedSignersFile={allowed}")
    for tag in ("tavr@v0.0.1", "tavr#dev#1", "tavr@v0.0.2", "tavr#dev#2"):
        git(two, *trust, "tag", "-v", tag)
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "other")], check=True)
    allowed.write_text("tavr " + (tmp_path / "other.pub").read_text())
    with pytest.raises(subprocess.CalledProcessError):
        git(two, *trust, "tag", "-v", "tavr@v0.0.1")


def test_a_moved_or_missing_tag_is_named(two: Path) -> None:
    first, second = (git(two, "rev-parse", f"tavr@v0.0.{n}^{{commit}}") for n in (1, 2))
    kept = git(two, "rev-parse", "refs/tags/tavr#dev#2")
    assert held(two) == "v0.0.2"
    git(two, "update-ref", "refs/tags/tavr#dev#2", git(two, "rev-parse", "refs/tags/tavr#dev#1"))
    with pytest.raises(
        VerificationError, match=f"tag tavr#dev#2: was moved to {first[:12]}; the log says {second[:12]}"
    ):
        held(two)
    git(two, "tag", "-d", "tavr#dev#2")
    with pytest.raises(VerificationError, match="tag tavr#dev#2: line 3 of the log names it and it is not here"):
        held(two)
    git(two, "update-ref", "refs/tags/tavr#dev#2", git(two, "rev-parse", "refs/tags/tavr@v0.0.2"))
    with pytest.raises(VerificationError, match="tag tavr#dev#2: its signature was made for another tag"):
        held(two)
    git(two, "update-ref", "refs/tags/tavr#dev#2", kept)
    assert held(two) == "v0.0.2"


def test_a_tag_without_a_line_of_the_log_moves_nothing(two: Path) -> None:
    first = git(two, "rev-parse", "tavr@v0.0.1^{commit}")
    create_tag(two, Tag("tavr#dev#3", first, "mine", {}), signing_key(two))
    assert held(two) == "v0.0.2"
    assert unlogged_tags(two, "tavr", open_log(two)) == ["tavr#dev#3"]
    assert rollback(two, "dev", "v0.0.1", "back").tags[1] == "tavr#dev#4"
    assert held(two) == "v0.0.1"


def test_tags_of_a_rotated_key_still_hold(two: Path) -> None:
    rotate_key(two, None)
    assert held(two) == "v0.0.2"
    assert rollback(two, "dev", "v0.0.1", "back").key == signing_key(two).fingerprint
    assert held(two) == "v0.0.1"


def test_a_withdrawn_version_never_holds_a_stage_again(two: Path) -> None:
    withdraw(two, CLIPS[0].clip_id)
    told = f"v0.0.1 can never hold dev again:\n  - withdrawal: withdrawn clip {CLIPS[0].clip_id[:12]} is in it"
    with pytest.raises(RefusedError, match=told):
        rollback(two, "dev", "v0.0.1", "back")
    entry = read_log(two)[-1]
    assert (entry["event"], entry["version"], entry["target"]) == ("refused", "v0.0.1", "dev")
    assert held(two) == "v0.0.2"


def test_a_rejected_candidate_is_never_promoted_nor_rolled_back_to(two: Path, finish: Finish) -> None:
    reject(two, "v0.0.1", "faces\nflicker")
    with pytest.raises(InputError, match=f"{FIRST}: already rejected by"):
        reject(two, FIRST, "again")
    with pytest.raises(InputError, match="--reason: empty"):
        reject(two, SECOND, " ")
    with pytest.raises(RefusedError, match=r"rejection: rejected by .* at .*Z: faces flicker"):
        rollback(two, "dev", "v0.0.1", "back")
    finish("20260103-00000003", gain=0.5)
    entry = reject(two, "20260103-00000003", "no")
    assert {"run", "commit", "record_sha256", "actor", "reason"} <= set(entry)
    (reason,) = open_case(two, "20260103-00000003", "dev").decision.reasons
    assert reason.startswith("rejection: rejected by TAVR <tavr@localhost> at ")


def test_the_policy_can_ask_for_a_witness(two: Path, tmp_path: Path, finish: Finish) -> None:
    make_key(tmp_path / "wanda")
    line = " ".join((tmp_path / "wanda.pub").read_text().split()[:2])
    (two / WITNESSES).write_text(f"wanda@example.org {line}\n")
    policy = yaml.safe_load((two / "conf/policy.yaml").read_text())
    policy["targets"]["dev"]["witnesses"] = 1
    (two / "conf/policy.yaml").write_text(yaml.safe_dump(policy))
    commit(two)
    finish("20260103-00000003", gain=0.5)
    asked = "witness: 0 of 1 witnesses signed a checkpoint that pins the approvals and the stage's history"

    def reasons() -> list[str]:
        return [reason[: len(asked)] for reason in open_case(two, "20260103-00000003", "dev").decision.reasons]

    assert reasons() == [asked]
    file = tmp_path / "checkpoint.json"
    take_checkpoint(two, file)
    witness_checkpoint(two, file, tmp_path / "wanda")
    log_checkpoint(two, file)
    assert reasons() == []
    assert promote(two, "20260103-00000003", "dev").version == "v0.0.3"
    with pytest.raises(RefusedError, match="0 of 1 witnesses"):
        promote(two, "v0.0.2", "dev")  # the stage has moved since the witness looked
