"""`tavr publish`, `pull`, `return` and `receipts` without a server: one line and the right exit code."""

import subprocess
import sys
from pathlib import Path

import pytest
from tavr_cli import publish_commands
from tavr_cli.main import main
from tavr_records.errors import VerificationError


@pytest.mark.parametrize(
    "command", [["publish", "v0.0.1"], ["pull", "tavr@dev", "-o", "x"], ["return", "x"], ["receipts"]]
)
def test_without_storage_each_command_says_what_to_set(
    command: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("TAVR_S3_URL", raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["tavr", *command])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line == "tavr: TAVR_S3_URL is not set, so models stay on this machine; set it to s3://bucket/prefix"


def test_what_does_not_verify_ends_with_4(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from tavr_lineage.publication import storage

    def refuse() -> None:
        raise VerificationError("s3://b/x: its bytes are not the file's")

    monkeypatch.setattr(storage, "need_storage", refuse)
    monkeypatch.setattr(sys, "argv", ["tavr", "pull", "tavr@dev", "-o", str(tmp_path / "x")])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == publish_commands.EXIT_NOT_VERIFIED == 4
    assert capsys.readouterr().err == "tavr: s3://b/x: its bytes are not the file's\n"


def test_help_needs_no_boto3() -> None:
    code = "import sys, tavr_cli.main; assert not {'boto3', 'botocore'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
