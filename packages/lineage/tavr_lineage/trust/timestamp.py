"""RFC 3161 time stamps: a third party's word that these bytes existed at a time."""

import datetime as dt
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tavr_records.errors import InputError, VerificationError

from tavr_lineage.git import read_file
from tavr_lineage.require import require

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

ROOTS = "conf/timestamp-roots.pem"
_QUERY, _REPLY = "application/timestamp-query", "application/timestamp-reply"
_SECONDS = 30


def ask_timestamp(payload: bytes, url: str) -> bytes:
    """A time stamp authority's reply over `payload` (DER), before anybody verified it.

    Raises:
        InputError: no http(s) address, nobody answers, or what comes back is no granted time stamp.
    """
    from rfc3161_client import HashAlgorithm, PKIStatus, TimestampRequestBuilder, decode_timestamp_response

    if not url.startswith(("http://", "https://")):
        raise InputError(f"--timestamp {url!r}: give the http(s) address of a time stamp authority (RFC 3161)")
    asked = TimestampRequestBuilder().data(payload).hash_algorithm(HashAlgorithm.SHA256).build()
    request = urllib.request.Request(url, asked.as_bytes(), {"Content-Type": _QUERY, "Accept": _REPLY})  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=_SECONDS) as response:  # noqa: S310 - http(s) only, see above
            data = bytes(response.read())
        reply = decode_timestamp_response(data)
        told = ", ".join(reply.status_string) or "no reason given"
        require(reply.status == PKIStatus.GRANTED, f"status {reply.status}: {told}")
        require(reply.tst_info.nonce == asked.nonce, "the reply's nonce is not the request's")
    except (urllib.error.URLError, OSError, ValueError) as error:
        raise InputError(f"--timestamp {url}: no time stamp ({error}); try again or another authority") from error
    return data


def verify_timestamp(payload: bytes, token: bytes, roots: Sequence["Certificate"]) -> dt.datetime:
    """When the authority saw `payload`.

    Raises:
        VerificationError: a stamp of other bytes, or by an authority that none of `roots` vouches for.
    """
    from rfc3161_client import VerificationError as RefusedStamp
    from rfc3161_client import VerifierBuilder, decode_timestamp_response

    if not roots:
        raise VerificationError(f"time stamp: no certificate to trust; put the authority's root into {ROOTS}")
    try:
        reply = decode_timestamp_response(token)
        VerifierBuilder(roots=list(roots)).build().verify_message(reply, payload)
    except (RefusedStamp, ValueError) as error:
        raise VerificationError(f"time stamp: {error}") from error
    return reply.tst_info.gen_time


def read_roots(root: Path) -> list["Certificate"]:
    """The committed root certificates of the authorities we trust; none when there is no such file."""
    return parse_roots(read_file(root, "HEAD", ROOTS) or b"", ROOTS)


def parse_roots(data: bytes, where: str) -> list["Certificate"]:
    """As `read_roots`, from PEM bytes.

    Raises:
        InputError: no certificates.
    """
    from cryptography.x509 import load_pem_x509_certificates

    try:
        return load_pem_x509_certificates(data) if data.strip() else []
    except ValueError as error:
        raise InputError(f"{where}: no PEM certificates ({error}); restore it from git") from error
