"""`model.sig`: OpenSSF's own command accepts it, and no other bytes than the record's."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tavr_lineage.candidate import tree_without_seal
from tavr_lineage.case import open_case
from tavr_lineage.release import open_release
from tavr_lineage.trust.log import open_log, read_log
from tavr_lineage.trust.model_signature import MODEL_SIGNATURE, check_model_signature, model_key
from tavr_records.errors import InputError, VerificationError
from tavr_records.ids import sha256_file

from .conftest import Finish, git
from .test_release import RUN, with_weights


@pytest.fixture
def signed(finish: Finish, checkout: Path) -> Path:
    """The worktree of a run whose parameters name the model."""
    finish(RUN, spoil=with_weights)
    return checkout / ".runs" / RUN


def test_openssfs_command_accepts_it_and_refuses_a_changed_byte(signed: Path, checkout: Path, tmp_path: Path) -> None:
    (key,) = open_log(checkout).keyring.believed("model")
    public = tmp_path / "model.pem"
    public.write_bytes(key.pem())
    model = open_release(checkout, RUN).model

    def verify() -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "model_signing", "verify", "key", str(model), "--signature"]
        command += [str(signed / MODEL_SIGNATURE), "--public_key", str(public)]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    accepted = verify()
    assert accepted.returncode == 0, accepted.stderr
    file = model / "model.safetensors"
    content = file.read_bytes()
    file.unlink()  # it is linked into the cache
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    refused = verify()
    assert refused.returncode != 0
    assert "Hash mismatch for 'model.safetensors'" in refused.stdout + refused.stderr


def test_it_is_committed_sealed_and_its_key_is_on_the_log(signed: Path, checkout: Path) -> None:
    assert MODEL_SIGNATURE in git(checkout, "ls-tree", "--name-only", f"run/{RUN}").splitlines()
    case = open_case(checkout, RUN, "dev")
    assert case.decision.allow, case.decision.reasons
    assert tree_without_seal(checkout, case.commit) == case.record["code"]["tree"]
    added = read_log(checkout)[-1]
    assert (added["event"], added["use"], added["public_key"]) == (
        "key added",
        "model",
        model_key(checkout).public.public,
    )
    assert str(checkout) not in (signed / MODEL_SIGNATURE).read_text(), "no path of this machine"


def test_it_holds_without_openssfs_library(
    signed: Path, checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = (signed / MODEL_SIGNATURE).read_bytes()
    file = signed / "data/stage3/model/model.safetensors"
    files = {"model.safetensors": sha256_file(file)}
    key = model_key(checkout).public
    assert check_model_signature(data, files, [key]) == key
    for other in ({}, {**files, "more": "a" * 64}, {"model.safetensors": "b" * 64}):
        with pytest.raises(VerificationError, match=r"model\.sig: signs other bytes of m"):
            check_model_signature(data, other, [key])
    with pytest.raises(VerificationError, match="signed by no model key of the log"):
        check_model_signature(data, files, [])
    bundle = json.loads(data)
    bundle["dsseEnvelope"]["payload"] = bundle["dsseEnvelope"]["payload"][:-8] + "AAAAAAAA"
    with pytest.raises(VerificationError, match=r"model\.sig: "):
        check_model_signature(json.dumps(bundle).encode(), files, [key])
    with pytest.raises(VerificationError, match="not a model signature"):
        check_model_signature(b"{}", files, [key])
    subprocess.run(["openssl", "genrsa", "-out", str(tmp_path / "rsa.pem"), "2048"], check=True, capture_output=True)
    monkeypatch.setenv("TAVR_MODEL_KEY", str(tmp_path / "rsa.pem"))
    with pytest.raises(InputError, match=r"rsa\.pem: a RSAPrivateKey; name a PEM key on curve P-256"):
        model_key(checkout)
    monkeypatch.setenv("TAVR_MODEL_KEY", str(tmp_path / "missing.pem"))
    with pytest.raises(InputError, match=r"missing\.pem: no model key"):
        model_key(checkout)


def test_a_named_key_signs_and_a_run_without_a_model_is_not_signed(
    finish: Finish, checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = tmp_path / "model.pem"
    make = ["openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384", "-out", str(named)]
    subprocess.run(make, check=True, capture_output=True)
    monkeypatch.setenv("TAVR_MODEL_KEY", str(named))
    candidate = finish(RUN, spoil=with_weights)
    assert open_log(checkout).keyring.believed("model")[0].public.startswith("ecdsa-sha2-nistp384 ")
    assert open_case(checkout, candidate.commit, "dev").decision.allow
    second = finish("20260102-00000002")  # its parameters name no model
    assert MODEL_SIGNATURE not in git(checkout, "ls-tree", "--name-only", second.commit).splitlines()
