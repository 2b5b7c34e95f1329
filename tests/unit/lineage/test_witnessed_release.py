"""Releases whose policy asks for a witness and a time stamp, and releases with a signature of the model itself."""

from pathlib import Path

import pytest
import yaml
from stand_alone import AUDITOR, JUDGE
from tavr_lineage.evidence.collect import collect_evidence
from tavr_lineage.evidence.verification import FAILED, VERIFIED, verify_evidence
from tavr_lineage.promotion import promote
from tavr_lineage.trust.allowed_signers import WITNESSES
from tavr_lineage.trust.checkpoint_files import log_checkpoint, take_checkpoint, witness_checkpoint
from tavr_lineage.trust.keys import make_key
from tavr_lineage.trust.model_signature import MODEL_SIGNATURE
from tavr_lineage.trust.timestamp import ROOTS
from tavr_records.errors import RefusedError

from .conftest import Finish, commit, git
from .test_evidence import with_model
from .time_stamp_authority import make_authority, serving

FIRST, SECOND = "20260101-00000001", "20260102-00000002"


def steps(files: dict[str, bytes]) -> dict[str, tuple[bool, str]]:
    return {check.step: (check.ok, check.reason) for check in verify_evidence(files).checks}


def test_witness_and_time_stamp_are_asked_for_and_judged_again(finish: Finish, checkout: Path, tmp_path: Path) -> None:
    policy = yaml.safe_load((checkout / "conf/policy.yaml").read_text())
    policy["targets"]["dev"] |= {"witnesses": 1, "timestamp": True}
    (checkout / "conf/policy.yaml").write_text(yaml.safe_dump(policy))
    make_key(tmp_path / "wanda")
    line = (tmp_path / "wanda.pub").read_text().rsplit(" ", 3)[0]
    (checkout / WITNESSES).write_text(f'wanda@example.org namespaces="tavr-checkpoint" {line}\n')
    (checkout / ROOTS).write_bytes(make_authority(tmp_path / "tsa").read_bytes())
    git(checkout, "add", "-A")
    commit(checkout, "a witness")
    finish(FIRST)
    with pytest.raises(RefusedError, match="witness"):
        promote(checkout, FIRST, "dev")
    file = tmp_path / "checkpoint.json"
    with serving(tmp_path / "tsa") as url:
        take_checkpoint(checkout, file, url)
    witness_checkpoint(checkout, file, tmp_path / "wanda")
    log_checkpoint(checkout, file)
    promote(checkout, FIRST, "dev")
    files = collect_evidence(checkout, "v0.0.1")
    found = steps(files)
    assert all(ok for ok, _ in found.values()), found
    assert "refused before, log line 2: " in found["gate"][1]
    told = {step["step"]: step["reason"] for step in AUDITOR.verify(JUDGE.Judge(files, "", None, None))}
    assert "NOT judged here: witnesses, time stamp" in told["gate"]
    for name in ("witnesses", "timestamp-roots.pem"):
        assert steps({**files, name: files[name] + b"\n"})["approvals"] == (
            False,
            "approvers, witnesses, timestamp-roots.pem: not those of the promotion",
        )


def test_the_models_own_signature_is_of_its_very_files(finish: Finish, checkout: Path) -> None:
    finish(FIRST, spoil=with_model)
    promote(checkout, FIRST, "dev")
    files = collect_evidence(checkout, "v0.0.1")
    assert f"{MODEL_SIGNATURE} by SHA256:" in steps(files)["attestation"][1]
    finish(SECOND, gain=0.5, spoil=with_model)
    promote(checkout, SECOND, "dev")
    other = collect_evidence(checkout, "v0.0.2")[MODEL_SIGNATURE]
    found = verify_evidence({**files, MODEL_SIGNATURE: other})
    assert found.state == FAILED
    assert [check.step for check in found.checks if not check.ok] == ["attestation"]
    assert verify_evidence(files).state == VERIFIED
