"""A small checkout with one finished run, made by hand: real git, real parquet, a real DVC cache, no DVC process."""

import hashlib
import json
import os
import shutil
import subprocess
import uuid
from collections.abc import Callable, Generator
from copy import deepcopy
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import yaml
from rows import make_clip
from s3_server import S3Server, rclone_server
from tavr_lineage import git as git_module
from tavr_lineage.candidate import Candidate, commit_candidate
from tavr_lineage.exports.dossier import Dossier, open_dossier
from tavr_lineage.promotion import promote
from tavr_lineage.record import Run, StageOutcome
from tavr_lineage.trust.keys import signing_key
from tavr_records.manifest import write_manifest
from tavr_records.schemas import (
    Clip,
    ClipPair,
    ClipSplit,
    Consumed,
    PinnedWeight,
    Refused,
    Score,
)
from tavr_records.verdict import CheckResult, Verdict, write_verdict

CHECKED = ("sources", "ingest", "pairs", "latents", "preferences", "benchmark")
ORDER = (
    "weights",
    *(name for stage in ("sources", "ingest", "pairs", "latents") for name in (stage, f"check_{stage}")),
    *("stage1", "stage2", "preferences", "check_preferences", "stage3", "benchmark", "check_benchmark"),
)


CLIPS = [
    make_clip(f"r{index}", person_id=f"person{index // 2}", rights="Apache-2.0") for index in range(12)
]  # two clips a person; 0..1 train, 2..5 benchmark


def pair(ref: Clip, target: Clip, split: str) -> ClipPair:
    return ClipPair(
        f"{ref.record_id}|{target.record_id}", ref.clip_id, target.clip_id, ref.person_id, f"i-{ref.person_id}", split,
        0.8, 10.0, "accepted", "ground-truth", "automatic",
    )  # fmt: skip


PAIRS = [pair(CLIPS[2 * i], CLIPS[2 * i + 1], "train" if i < 2 else "benchmark") for i in range(6)]


def score(of: ClipPair, method: str, id_target: float) -> Score:
    return Score(
        f"{method}|{of.pair_id}", of.pair_id, method, of.person_id, 17, 0, 0.5, id_target, 1.0, 2.0, 0.1, 0.2, 0.3,
        0.6, 21, 0, "x.mp4",
    )  # fmt: skip


def scores(gain: float) -> list[Score]:
    judged = [of for of in PAIRS if of.split == "benchmark"]
    rows = [score(of, "base", 0.2 + 0.01 * index) for index, of in enumerate(judged)]
    return rows + [score(of, "ours", 0.2 + gain + 0.013 * index) for index, of in enumerate(judged)]


def git(root: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=root, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture(autouse=True)
def no_identity(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine without a git identity, as a fresh one is."""
    for name in ("GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_NAME", "GIT_COMMITTER_EMAIL", "EMAIL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    monkeypatch.setenv("GIT_CONFIG_SYSTEM", "/dev/null")
    monkeypatch.delenv("TAVR_SIGNING_KEY", raising=False)
    git_module.identity.cache_clear()


def make_checkout(folder: Path, root: Path) -> Path:
    """A repository with the project's own policy and nothing run yet, in the new folder `folder`."""
    folder.mkdir()
    git(folder, "init", "--quiet", "--initial-branch=main")
    (folder / "conf").mkdir()
    shutil.copy(root / "conf/policy.yaml", folder / "conf/policy.yaml")
    (folder / "audit").mkdir()
    (folder / "audit/withdrawn.jsonl").write_text("")
    (folder / "requirements.lock").write_text("numpy==2\n")
    (folder / ".gitignore").write_text("/data/\n/.dvc/cache/\n/.runs/\n/.work/\n")
    git(folder, "add", "-A")
    commit(folder, "start")
    return folder


def commit(folder: Path, message: str) -> None:
    """Commit what is staged or tracked, as somebody."""
    git(folder, "-c", "user.name=t", "-c", "user.email=t@t", "commit", "--quiet", "-a", "-m", message)


@pytest.fixture
def checkout(tmp_path: Path, root: Path) -> Path:
    """`make_checkout` in a temporary folder."""
    return make_checkout(tmp_path / "checkout", root)


def write_run(root: Path, gain: float = 0.3) -> None:
    """Everything a finished run leaves in its worktree."""
    data = root / "data"
    params = {"_compose": {"profile": "tiny", "overrides": []}, "stage1": {"seed": 3, "lr": 0.001}}
    (root / "params.yaml").write_text(yaml.safe_dump(params))
    write_manifest(data / "ingest/manifest.parquet", Clip, CLIPS, ("clip_id",))
    write_manifest(data / "ingest/quarantine.parquet", Refused, [Refused("r99", "dover", "dover 3.0")], ("record_id",))
    write_manifest(data / "pairs/manifest.parquet", ClipPair, PAIRS, ("pair_id",))
    splits = [ClipSplit(c.clip_id, c.person_id, f"i-{c.person_id}", "train") for c in CLIPS]
    write_manifest(data / "pairs/clips.parquet", ClipSplit, splits, ("clip_id",))
    weight = PinnedWeight("vae/model.safetensors", "vae", "zoo/vae", "", "b" * 64, "Apache-2.0")
    write_manifest(data / "weights/manifest.parquet", PinnedWeight, [weight], ("path",))
    for stage in ("stage1", "stage2", "stage3"):
        rows = [
            Consumed(stage, step, slot, [CLIPS[2 * slot].clip_id, CLIPS[2 * slot + 1].clip_id], "target0", "ref0", True, "")
            for step in range(3) for slot in range(2)
        ]  # fmt: skip
        rows.append(Consumed(stage, 3, 0, [CLIPS[8].clip_id], "target0", "ref0", False, "loss is nan"))
        write_manifest(data / stage / "ledger.parquet", Consumed, rows, ("step", "slot"))
        (data / stage / "model").mkdir(parents=True, exist_ok=True)
        (data / stage / "model/model.safetensors").write_bytes(f"{stage} {gain}".encode())
    write_manifest(data / "benchmark/manifest.parquet", Score, scores(gain), ("score_id",))
    (root / "reports/benchmark").mkdir(parents=True, exist_ok=True)
    metrics = {"candidate": "ours", "baseline": "base", "release": "r1"}
    (root / "reports/benchmark/metrics.json").write_text(json.dumps(metrics))
    for stage in CHECKED:
        write_verdict(
            root / "reports" / stage / "verdict.json", Verdict(stage, (CheckResult("rows", "critical", True, 6, 1),))
        )
        write_manifest(root / "reports" / stage / "quarantine.parquet", Refused, [], ("record_id",))


def fill_cache(root: Path, cache: Path) -> None:
    """Put every output folder into a DVC cache and write dvc.lock, as `dvc repro` would."""

    def store(content: bytes, suffix: str = "") -> str:
        digest = hashlib.md5(content).hexdigest() + suffix
        path = cache / "files/md5" / digest[:2] / digest[2:]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return digest

    stages = {}
    for folder in sorted((root / "data").iterdir()):
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        entries = [{"md5": store(path.read_bytes()), "relpath": path.relative_to(folder).as_posix()} for path in files]
        out = {"path": f"data/{folder.name}", "md5": store(json.dumps(entries).encode(), ".dir")}
        stages[folder.name] = {"cmd": f"python -m tavr_{folder.name}", "outs": [out]}
    (root / "dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": stages}))


Finish = Callable[..., Candidate]


def finish_run(
    checkout: Path, run_id: str, gain: float = 0.3, spoil: Callable[[Path], None] | None = None, **changes: object
) -> Candidate:
    """Finish a run on its own branch: `finish_run(checkout, "20260101-00000001", spoil=lambda worktree: ...)`."""
    worktree = checkout / ".runs" / run_id
    git(checkout, "worktree", "add", "--quiet", "-b", f"run/{run_id}", str(worktree), "main")
    write_run(worktree, gain)
    if spoil is not None:
        spoil(worktree)
    fill_cache(worktree, checkout / ".dvc/cache")
    facts = Run(
        run_id, "a test", "t <t@t>", git(checkout, "rev-parse", "main"), (), "2026-01-01T00:00:00Z",
        "2026-01-01T00:10:00Z", [StageOutcome(name, "done", 1.0) for name in ORDER],
    )  # fmt: skip
    return commit_candidate(worktree, replace(facts, **changes), signing_key(checkout))


@pytest.fixture
def finish(checkout: Path) -> Finish:
    """`finish_run` in the checkout."""
    return partial(finish_run, checkout)


EXPORTED = "20260101-00000001"
DEPS = {
    "sources": [{"path": "packages/sources/tavr_sources", "md5": "2" * 32}, {"path": "sources.lock", "md5": "1" * 32}],
    "check_ingest": [{"path": "data/ingest", "md5": "3" * 32 + ".dir", "size": 10, "nfiles": 2}],
    "stage1": [{"path": "data/latents", "md5": "5" * 32 + ".dir"}, {"path": "requirements.lock", "md5": "6" * 32}],
}
REQUIREMENTS = b"""\
numpy==2.3.1 \\
    --hash=sha256:%s \\
    --hash=sha256:%s
    # via tavr-lineage
pywin32==311 ; sys_platform == 'win32' \\
    --hash=sha256:%s
    # via something
""" % (b"a" * 64, b"b" * 64, b"c" * 64)


@pytest.fixture
def dossier(finish: Finish, checkout: Path) -> Dossier:
    """A promoted candidate as its exports see it, with what the small checkout has no files for."""
    finish(EXPORTED)
    promote(checkout, EXPORTED, "dev")
    found = open_dossier(checkout, "dev")
    record = deepcopy(dict(found.record))
    for stage, deps in DEPS.items():
        record["dvc"]["stages"].setdefault(stage, {})["deps"] = deps
    record["benchmark"]["metrics"]["methods"] = {
        "base": {"id_target": {"mean": 0.2, "low": 0.1, "high": 0.3, "pairs": 4}},
        "ours": {"id_target": {"mean": 0.5, "low": 0.4, "high": 0.6, "pairs": 4}, "sync_c": {"mean": None, "pairs": 4}},
    }
    return replace(found, record=record, requirements=REQUIREMENTS, licences={"numpy==2.3.1": "BSD-3-Clause"})


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Generator[S3Server]:
    """One rclone server for the session."""
    with rclone_server(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture
def s3(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    """The server as this test's configured storage, under a prefix of its own."""
    for name in [name for name in os.environ if name.startswith(("AWS_", "TAVR_S3_"))]:
        monkeypatch.delenv(name)
    for name, value in s3_server.environment(f"test/{uuid.uuid4().hex[:8]}").items():
        monkeypatch.setenv(name, value)
    return s3_server
