"""docs/audit.md, followed command by command on a real release."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from stand_alone import FOLDER
from tavr_lineage.evidence.collect import collect_evidence
from tavr_lineage.evidence.container import write_zip
from tavr_lineage.evidence.page import PROGRAMS, add_views
from tavr_lineage.promotion import promote
from tavr_lineage.questions import prove_subject
from tavr_lineage.trust.log import open_log
from tavr_records.ids import canonical_json

from .conftest import CLIPS, Finish

FIRST, SECOND = "20260101-00000001", "20260301-00000002"


def commands(root: Path) -> list[str]:
    """The shell commands of the page, in order, less those of the operator and of pip."""
    blocks = re.findall(r"```bash\n(.*?)```", (root / "docs/audit.md").read_text(encoding="utf-8"), re.DOTALL)
    found = [line for block in blocks for line in re.split(r"\n(?=audit/|tavr |python3 |cp |grep )", block.strip())]
    return [line for line in found if not line.startswith(("tavr ", "python3 -m venv"))]


@pytest.fixture
def desk(finish: Finish, checkout: Path, tmp_path: Path) -> tuple[Path, dict[str, str]]:
    """A folder as the page asks for, and what stands for its placeholders."""
    folder = tmp_path / "desk"
    folder.mkdir()
    for name in PROGRAMS:
        shutil.copy(FOLDER / name, folder / name)
    finish(FIRST)
    promote(checkout, FIRST, "dev")
    write_zip(folder / "evidence.zip", add_views(collect_evidence(checkout, "v0.0.1")))
    person = CLIPS[0].person_id
    (folder / "proof.json").write_bytes(canonical_json(prove_subject(checkout, "v0.0.1", f"person:{person}")))
    finish(SECOND, gain=0.5)
    promote(checkout, SECOND, "dev")
    write_zip(folder / "later.zip", add_views(collect_evidence(checkout, "v0.0.2")))
    return folder, {"SHA256:...": str(open_log(checkout).entries[0]["key"]), "ID": person}


def test_every_command_does_what_the_page_says(root: Path, desk: tuple[Path, dict[str, str]]) -> None:
    folder, values = desk
    told: dict[str, str] = {}
    lines = commands(root)
    for line in lines:
        command = re.sub(r"^(audit/bin/python|python3)(?= )", sys.executable, line)
        for name, value in values.items():
            command = command.replace(name, value)
        command = command.replace("HEX", re.findall(r"root ([0-9a-f]{64})", "".join(told.values()))[0] if told else "")
        done = subprocess.run(["bash", "-c", command], cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, (line, done.stdout, done.stderr)
        told[line] = done.stdout
    verify, judge = (f"audit/bin/python {name}.py evidence.zip --trust SHA256:..." for name in ("verify", "judge"))
    assert told[verify].endswith("\nVERIFIED\n")
    assert "ok     gate: every rule of dev holds" in told[judge]
    assert "('stage1', 4, 2, 0, 2)" in next(text for line, text in told.items() if "sqlite3" in line)
    assert '"used": true' in next(text for line, text in told.items() if "--who-used" in line)
    assert (
        f"PROVEN: person_id '{CLIPS[0].person_id}' is in the model" in told[next(n for n in lines if "proof.json" in n)]
    )
    assert '"version":"v0.0.1"' in next(text for line, text in told.items() if line.startswith("grep"))
    assert "the kept checkpoint: line" in next(text for line, text in told.items() if "--since" in line)
