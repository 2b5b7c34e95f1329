"""A configured signer adds its signature to the attestation; the local one stays, by which everybody verifies."""

import json
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from securesystemslib.dsse import Envelope
from securesystemslib.signer import SigstoreKey, SSlibKey
from tavr_lineage.case import open_case
from tavr_lineage.trust.attest import ATTESTATION, open_sealed
from tavr_lineage.trust.keys import signing_key
from tavr_lineage.trust.remote_signer import remote_key, remote_signer
from tavr_records.errors import InputError

from .conftest import Finish

RUN = "20260101-00000001"


def test_the_attestation_carries_both_signatures(
    finish: Finish, checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    private = tmp_path / "kms.pem"
    subprocess.run(
        ["openssl", "genpkey", "-algorithm", "ed25519", "-out", str(private)], check=True, capture_output=True
    )
    pem = subprocess.run(["openssl", "pkey", "-in", str(private), "-pubout"], check=True, capture_output=True).stdout
    public = SSlibKey.from_crypto(load_pem_public_key(pem))
    (tmp_path / "kms.json").write_text(json.dumps({"keyid": public.keyid, **public.to_dict()}))
    monkeypatch.setenv("TAVR_ATTESTATION_SIGNER", f"file2:{private}")
    monkeypatch.setenv("TAVR_ATTESTATION_KEY", str(tmp_path / "kms.json"))
    finish(RUN)
    data = (checkout / ".runs" / RUN / ATTESTATION).read_bytes()
    envelope = Envelope.from_dict(json.loads(data))
    assert set(envelope.signatures) == {signing_key(checkout).fingerprint, public.keyid}
    envelope.verify([remote_key()], 1)
    open_sealed(data, [signing_key(checkout)], ATTESTATION)
    assert open_case(checkout, RUN, "dev").decision.allow


def test_sigstore_is_read_and_mistakes_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TAVR_ATTESTATION_SIGNER", raising=False)
    monkeypatch.delenv("TAVR_ATTESTATION_KEY", raising=False)
    assert remote_signer() is None
    monkeypatch.setenv("TAVR_ATTESTATION_SIGNER", "sigstore:")
    with pytest.raises(InputError, match="TAVR_ATTESTATION_KEY: not set"):
        remote_signer()
    key = {"keyid": "k", "keytype": "sigstore-oidc", "scheme": "Fulcio", "keyval": {"identity": "i", "issuer": "o"}}
    (tmp_path / "key.json").write_text(json.dumps(key))
    monkeypatch.setenv("TAVR_ATTESTATION_KEY", str(tmp_path / "key.json"))
    assert isinstance(remote_key(), SigstoreKey)
    monkeypatch.setenv("TAVR_ATTESTATION_SIGNER", "nowhere:key")
    with pytest.raises(InputError, match="TAVR_ATTESTATION_SIGNER: nowhere: cannot be used to sign"):
        remote_signer()
    (tmp_path / "key.json").write_text("{}")
    with pytest.raises(InputError, match=r"key\.json: no securesystemslib public key"):
        remote_key()
