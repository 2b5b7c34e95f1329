"""`tavr keys`, `checkpoint`, `approve`, `reject`: one line and an exit code for people, JSON for machines."""

import json
import subprocess
from pathlib import Path

import pytest

from .test_main import checkout as checkout  # noqa: PLC0414 - a fixture
from .test_main import git, tavr

WHEN = "2026-01-01T00:00:00Z"


@pytest.fixture
def logged(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout whose log has two lines."""
    from tavr_lineage.trust.log import append

    monkeypatch.delenv("TAVR_SIGNING_KEY", raising=False)
    append(checkout, "promoted", WHEN, {"target": "dev"})
    return checkout


def test_keys_are_listed_added_rotated_and_revoked(logged: Path, tmp_path: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "spare")], check=True)
    (first,) = json.loads(tavr(logged, "keys", "list", "--json").stdout)["keys"]
    assert set(first) == {"fingerprint", "public_key", "use", "added_seq", "revoked_from_seq", "reason"}
    added = tavr(logged, "keys", "add", str(tmp_path / "spare.pub"))
    assert added.returncode == 0, added.stderr
    rotated = json.loads(tavr(logged, "keys", "rotate", "--json").stdout)
    assert (rotated["seq"], rotated["replaces"]) == (4, first["fingerprint"])
    spare = json.loads(tavr(logged, "keys", "list", "--json").stdout)["keys"][1]["fingerprint"]
    assert (
        "is not trusted from line 3 on"
        in tavr(logged, "keys", "revoke", spare, "--reason", "lost", "--from-seq", "3").stdout
    )
    text = tavr(logged, "keys", "list").stdout
    assert f"{first['fingerprint']}  log    from line 1 to line 4 (rotated)" in text
    assert "(lost)" in text
    refused = tavr(logged, "keys", "revoke", "SHA256:x", "--reason", "y")
    assert (refused.returncode, len(refused.stderr.splitlines())) == (2, 1)


def test_a_checkpoint_is_written_and_a_rewritten_log_is_exit_code_4(logged: Path, tmp_path: Path) -> None:
    file = tmp_path / "c.json"
    assert json.loads(tavr(logged, "checkpoint", "-o", str(file), "--json").stdout)["head"]["size"] == 2
    git(logged, "update-ref", "-d", "refs/heads/audit")
    from tavr_lineage.trust.log import append

    append(logged, "promoted", WHEN, {"target": "other"})
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "wanda")], check=True)
    found = tavr(logged, "checkpoint", "--witness", str(file), "--key", str(tmp_path / "wanda"))
    assert (found.returncode, len(found.stderr.splitlines())) == (4, 1)
    assert "the log was rewritten" in found.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["checkpoint"], "name one of --out, --witness and --log"),
        (["checkpoint", "--witness", "c.json"], "--witness FILE goes with --key KEY"),
        (["checkpoint", "-o", "c.json"], "the audit log is empty here"),
        (["checkpoint", "--log", "c.json"], "the audit log is empty here"),
        (["approve", "main", "--to", "prod", "--payload", "x"], "--payload and --signature go together"),
        (["approve", "nothing", "--to", "prod"], "no such commit"),
        (["reject", "nothing", "--reason", "x"], "no such commit"),
        (["keys", "rotate"], "the log is empty"),
        (["keys", "rotate", "--to", "x"], "only a key of TAVR_SIGNING_KEY has a successor"),
        (["keys", "add", "missing.pub"], "missing.pub: no public key"),
    ],
)
def test_mistakes_are_one_line(checkout: Path, arguments: list[str], message: str) -> None:
    found = tavr(checkout, *arguments)
    assert (found.returncode, len(found.stderr.splitlines())) == (2, 1)
    assert message in found.stderr
