"""Two publications at once, as two real processes: exactly one wins, on a server that enforces nothing."""

import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from publishable import publishable
from racers import race
from s3_server import S3Server
from tavr_lineage.promotion import promote
from tavr_lineage.publication import turns
from tavr_lineage.publication.pointers import read_pointer
from tavr_lineage.publication.publish import publish
from tavr_lineage.publication.published_manifest import read_manifest, version_path
from tavr_lineage.publication.storage import list_objects, need_storage, read_object, write_object
from tavr_lineage.publication.turns import turn
from tavr_lineage.trust.keys import signing_key
from tavr_lineage.trust.log import read_log
from tavr_records.errors import RefusedError
from tavr_records.ids import sha256_bytes

from .conftest import Finish, git

FIRST, SECOND = "20260101-00000001", "20260102-00000002"
TRIALS = pytest.param(20, marks=pytest.mark.slow)


@pytest.mark.parametrize("trials", [4, TRIALS])
@pytest.mark.parametrize("kind", ["pointer", "next", "claim"])
def test_of_two_processes_exactly_one_wins(
    kind: str,
    trials: int,
    s3: S3Server,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    outcomes = race(tmp_path / "race", kind, {"one": tmp_path, "two": tmp_path}, trials)
    pairs = list(zip(outcomes["one"], outcomes["two"], strict=True))
    winners = [["one", "two"][pair.index("won")] for pair in pairs if pair.count("won") == 1]
    with capsys.disabled():
        print(f"\n[{kind}] {len(winners)} of {trials} trials with one winner; one: {winners.count('one')}")
    assert len(winners) == trials, pairs
    url = os.environ["TAVR_S3_URL"]
    for trial, winner in enumerate(winners):
        monkeypatch.setenv("TAVR_S3_URL", f"{url}/{trial}")
        path = "tavr/claims/v0.0.1.json" if kind == "claim" else "tavr/stages/dev.json"
        stored = read_object(need_storage(), path)
        assert stored is not None
        assert f'"commit":"{winner}"' in stored.data.decode()
        assert not list_objects(need_storage(), "tavr/lock/"), "locks are given back"


def another_checkout(checkout: Path) -> Path:
    """A clone with the same key and no version yet: a colleague's machine."""
    other = checkout.parent / "other"
    git(checkout.parent, "clone", "--quiet", str(checkout), str(other))
    git(other, "branch", "audit", "origin/audit")
    (other / ".git/tavr").mkdir()
    shutil.copy(signing_key(checkout).path, other / ".git/tavr/dev_ed25519")
    return other


def finish_elsewhere(finish: Finish, checkout: Path, run_id: str, gain: float, seed: int) -> Path:
    """A run that is promoted in a clone only."""
    finish(run_id, gain=gain, spoil=publishable(seed))
    other = another_checkout(checkout)
    git(other, "fetch", "--quiet", "origin", f"run/{run_id}:run/{run_id}")
    shutil.copytree(checkout / ".dvc/cache", other / ".dvc/cache")
    promote(other, run_id, "dev")
    return other


def check_winner(outcomes: dict[str, list[str]], roots: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Every trial left one winner, and everything under the version is the winner's."""
    url = os.environ["TAVR_S3_URL"]
    for trial, results in enumerate(zip(*outcomes.values(), strict=True)):
        assert results.count("won") == 1, results
        winner = roots[list(outcomes)[results.index("won")]]
        (loser,) = (result for result in results if result != "won")
        assert "git fetch --tags" in loser
        monkeypatch.setenv("TAVR_S3_URL", f"{url}/{trial}")
        storage = need_storage()
        manifest, _ = read_manifest(storage, "tavr", "v0.0.1")
        pointer = read_pointer(storage, "tavr", "dev")
        commit = git(winner, "rev-parse", "tavr@v0.0.1^{commit}")
        assert pointer is not None
        assert (manifest.commit, pointer.commit) == (commit, commit)
        for entry in manifest.files:
            stored = read_object(storage, version_path("tavr", "v0.0.1", entry.path))
            assert stored is not None
            assert sha256_bytes(stored.data) == entry.sha256


@pytest.mark.parametrize("trials", [2, TRIALS])
def test_two_checkouts_that_promote_at_once(
    trials: int, finish: Finish, checkout: Path, s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = finish_elsewhere(finish, checkout, SECOND, 0.4, 2)
    finish(FIRST, spoil=publishable(1))
    promote(checkout, FIRST, "dev")
    roots = {"here-v0.0.1": checkout, "there-v0.0.1": other}
    check_winner(race(tmp_path / "race", "publish", roots, trials), roots, monkeypatch)
    assert read_log(checkout)


@pytest.mark.parametrize("trials", [2, TRIALS])
def test_two_versions_of_one_checkout_end_with_the_later(
    trials: int, finish: Finish, checkout: Path, s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish(FIRST, spoil=publishable(1))
    promote(checkout, FIRST, "dev")
    finish(SECOND, gain=0.4, spoil=publishable(2))
    promote(checkout, SECOND, "dev")
    race(tmp_path / "race", "promotions", {"one-dev-1": checkout, "two-dev-2": checkout}, trials)
    url = os.environ["TAVR_S3_URL"]
    for trial in range(trials):
        monkeypatch.setenv("TAVR_S3_URL", f"{url}/{trial}")
        pointer = read_pointer(need_storage(), "tavr", "dev")
        assert pointer is not None
        assert (pointer.version, pointer.counter) == ("v0.0.2", 2)


def test_a_remote_lets_one_checkout_win_before_anything_is_sent(
    finish: Finish, checkout: Path, s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = finish_elsewhere(finish, checkout, SECOND, 0.4, 2)
    finish(FIRST, spoil=publishable(1))
    promotion = promote(checkout, FIRST, "dev")
    git(tmp_path, "init", "--quiet", "--bare", "remote.git")
    monkeypatch.setenv("TAVR_GIT_REMOTE", str(tmp_path / "remote.git"))
    assert publish(checkout, promotion) is not None
    monkeypatch.setenv("TAVR_S3_URL", os.environ["TAVR_S3_URL"] + "/elsewhere")
    commit = git(other, "rev-parse", "tavr@v0.0.1^{commit}")
    with pytest.raises(RefusedError, match="another checkout was faster"):
        publish(other, replace(promotion, commit=commit))
    assert list_objects(need_storage(), "") == []


def test_a_dead_holder_blocks_until_its_lease_ends(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = need_storage()
    write_object(storage, "tavr/lock/dead", b'{"host":"gone","pid":7}')
    with (
        pytest.raises(RefusedError, match=r"another publication holds the turn \(\{\"host\":\"gone\",\"pid\":7\}\)"),
        turn(storage, "tavr", patience=0.1),
    ):
        pass
    monkeypatch.setattr(turns, "LEASE", -1.0)  # everything but our own is past its lease at once
    with turn(storage, "tavr", patience=0.1) as still_ours:
        assert "tavr/lock/dead" not in [entry.path for entry in list_objects(storage, "tavr/lock/")]
        with pytest.raises(RefusedError, match="held for too long"):
            still_ours()
    assert list_objects(storage, "tavr/lock/") == []
