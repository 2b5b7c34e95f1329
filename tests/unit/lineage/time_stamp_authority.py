"""A real RFC 3161 authority on 127.0.0.1: OpenSSL signs the replies, http.server hands them out."""

import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

_CONFIG = """
[tsa]
default_tsa = one
[one]
serial = {folder}/serial
crypto_device = builtin
signer_cert = {folder}/tsa.pem
signer_key = {folder}/tsa.key
signer_digest = sha256
default_policy = 1.2.3.4.1
digests = sha256, sha512
ess_cert_id_chain = no
[extensions]
basicConstraints = critical, CA:false
keyUsage = critical, digitalSignature
extendedKeyUsage = critical, timeStamping
"""


def make_authority(folder: Path) -> Path:
    """Keys and certificates of an authority; returns the root certificate to trust."""
    folder.mkdir()
    config = folder / "tsa.cnf"
    config.write_text(_CONFIG.format(folder=folder))
    (folder / "serial").write_text("01\n")
    new = ("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    _openssl(
        *new, "-x509", "-days", "30", "-subj", "/CN=Root", "-keyout", f"{folder}/root.key", "-out", f"{folder}/root.pem"
    )
    _openssl(*new, "-subj", "/CN=Stamps", "-keyout", f"{folder}/tsa.key", "-out", f"{folder}/tsa.csr")
    _openssl(
        "x509", "-req", "-in", f"{folder}/tsa.csr", "-CA", f"{folder}/root.pem", "-CAkey", f"{folder}/root.key",
        "-CAcreateserial", "-days", "30", "-extfile", str(config), "-extensions", "extensions", "-out", f"{folder}/tsa.pem",
    )  # fmt: skip
    return folder / "root.pem"


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """The address of the authority."""

    class Answer(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert self.headers["Content-Type"] == "application/timestamp-query"
            query = folder / "query.tsq"
            query.write_bytes(self.rfile.read(int(self.headers["Content-Length"])))
            config = f"{folder}/tsa.cnf"
            _openssl("ts", "-reply", "-config", config, "-queryfile", str(query), "-out", f"{folder}/reply.tsr")
            self.send_response(200)
            self.send_header("Content-Type", "application/timestamp-reply")
            self.end_headers()
            self.wfile.write((folder / "reply.tsr").read_bytes())

        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()


def _openssl(*arguments: str) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True)
