"""A signer that lives elsewhere, for the attestation: a cloud's KMS, a vault, a hardware token, or sigstore.

`TAVR_ATTESTATION_SIGNER` is a private key URI of securesystemslib (`awskms:`, `gcpkms:`, `azurekms:`, `hv:`, `hsm:`,
`sigstore:`, `file2:`); `TAVR_ATTESTATION_KEY` is the JSON file of its public key, {keyid, keytype, scheme, keyval}.
"""

import json
import os
from pathlib import Path
from typing import Any

from securesystemslib.signer import KEY_FOR_TYPE_AND_SCHEME, SIGNER_FOR_URI_SCHEME, Key, Signer
from tavr_records.errors import InputError

SIGNER, KEY = "TAVR_ATTESTATION_SIGNER", "TAVR_ATTESTATION_KEY"


def remote_signer() -> Signer | None:
    """The configured signer; None when none is.

    Raises:
        InputError: one of the two variables is missing, or what they name cannot be used.
    """
    uri = os.environ.get(SIGNER)
    if not uri:
        return None
    public = remote_key()
    try:
        return Signer.from_priv_key_uri(uri, public)
    except Exception as error:  # securesystemslib: "generic try-except", for each service raises its own
        raise InputError(
            f"{SIGNER}: {uri.split(':')[0]}: cannot be used to sign ({error}); see docs/decisions/0014"
        ) from error


def remote_key() -> Key:
    """The public key of the configured signer.

    Raises:
        InputError: it is not named, or its file does not hold one.
    """
    named = os.environ.get(KEY)
    if not named:
        raise InputError(f"{KEY}: not set; name the JSON file of the public key that belongs to {SIGNER}")
    _allow_sigstore()
    try:
        values: dict[str, Any] = json.loads(Path(named).read_bytes())
        return Key.from_dict(values.pop("keyid"), values)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{named}: no securesystemslib public key ({error!r}); see docs/decisions/0014") from error


def _allow_sigstore() -> None:
    """Sigstore's signatures are securesystemslib's by opt-in only, since their form may still change."""
    from securesystemslib.signer import SigstoreKey, SigstoreSigner

    SIGNER_FOR_URI_SCHEME[SigstoreSigner.SCHEME] = SigstoreSigner
    KEY_FOR_TYPE_AND_SCHEME[SigstoreKey.DEFAULT_KEY_TYPE, SigstoreKey.DEFAULT_SCHEME] = SigstoreKey
