"""Store, conditions, sampler, journal, checkpoints, machine facts."""

import json
from collections import Counter
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tavr_records.errors import InputError
from tavr_records.schemas import Consumed
from tavr_training.checkpoint import Checkpoints
from tavr_training.config import OptimizerConfig
from tavr_training.dataset import LatentStore, build_conditions
from tavr_training.engine import scheduled_rate
from tavr_training.journal import Journal, read_losses, write_ledger, write_losses
from tavr_training.machine import Machine, read_machine, split_batch
from tavr_training.metrics import summarise
from tavr_training.streams import EpochSampler, stream
from training_world import clip_name, clip_tensors, optimizer, write_latents

A, B = clip_name(0, 0), clip_name(1, 0)


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> LatentStore:
    root = tmp_path_factory.mktemp("latents")
    write_latents(root, {A: "p0", B: "p1"})
    return LatentStore(root)


def test_the_store_gives_back_what_was_written(store):
    written = clip_tensors(int(A[:8], 16), (16, 3, 4, 6), (3, 8), 16, 3)
    for key, (array, _, _) in written.items():
        assert torch.equal(store.tensor(A, key).float(), torch.from_numpy(array.astype("float32")))
    assert store.audio_shape() == (3, 8)
    assert store.window_latents(A, "ref0") == 3


def test_conditions_come_from_the_right_clip(store):
    c = build_conditions(store, A, B, 2)
    assert torch.equal(c.ref_latents, store.tensor(A, "ref0/latents")[:, :2].float())
    assert torch.equal(c.ref_face_tokens, store.tensor(A, "ref0/face_tokens")[:2])
    assert torch.equal(c.text_embeds, store.tensor(B, "clip/text").float())
    assert torch.equal(c.bg_latents, store.tensor(B, "target0/bg_latents").float())
    heard = store.tensor(A, "clip/audio").float()
    assert torch.equal(c.ref_audio[0], heard[9 - 5 : 9 + 3])  # ref0 starts at frame 9
    driving = store.tensor(B, "clip/audio").float()
    assert torch.equal(c.driving_audio[2], driving[3:11])
    assert not c.driving_audio[0, :5].any()


def test_variants_of_table_3_and_4(store):
    c = build_conditions(store, A, B, 2, token_selection=False, ref_audio=False)
    assert c.ref_face_tokens is None
    assert c.ref_audio is None


@pytest.mark.parametrize("length", [0, 4])
def test_a_reference_of_impossible_length_is_refused(store, length):
    with pytest.raises(InputError, match=f"reference of {length} latent frames .* has 3"):
        build_conditions(store, A, B, length)


def test_missing_and_broken_shards_are_named(tmp_path):
    write_latents(tmp_path, {A: "p0"})
    store = LatentStore(tmp_path)
    with pytest.raises(InputError, match="no target0/latents of clip feed"):
        store.tensor("feed", "target0/latents")
    next(tmp_path.glob("shard-*")).write_bytes(b"torn")
    with pytest.raises(InputError, match="unreadable"):
        LatentStore(tmp_path).tensor(A, "target0/latents")
    with pytest.raises(InputError, match="no such manifest"):
        LatentStore(tmp_path / "nowhere")


@given(items=st.integers(1, 12), batch=st.integers(1, 9), steps=st.integers(1, 12))
@settings(max_examples=40)
def test_every_item_is_taken_once_an_epoch(items, batch, steps):
    sampler = EpochSampler(items, batch, 7, "stage1")
    taken = [sampler.item(step, slot) for step in range(steps) for slot in range(batch)]
    again = EpochSampler(items, batch, 7, "stage1")
    assert taken == [again.item(step, slot) for step in range(steps) for slot in range(batch)]
    for start in range(0, len(taken) - items + 1, items):
        assert sorted(taken[start : start + items]) == list(range(items))
    assert max(Counter(taken).values()) - min(Counter(taken)[i] for i in range(items)) <= 1


def test_streams_differ_by_name_only():
    def draw(*name):
        return torch.rand(4, generator=stream(*name))

    assert torch.equal(draw(0, "stage1", 3, 1), draw(0, "stage1", 3, 1))
    others = [(1, "stage1", 3, 1), (0, "stage2", 3, 1), (0, "stage1", 4, 1), (0, "stage1", 3, 2)]
    assert all(not torch.equal(draw(0, "stage1", 3, 1), draw(*other)) for other in others)


def _row(step: int, slot: int) -> Consumed:
    return Consumed("stage1", step, slot, [A], "target0", "ref0[0:2]", used=True, reason="")


def test_the_journal_forgets_what_will_be_done_again(tmp_path):
    journal = Journal(tmp_path, 0, 0)
    for step in range(3):
        journal.consume([_row(step, 0), _row(step, 1)])
        journal.record({"step": step, "loss": 1.0 / (step + 1)})
    with (tmp_path / "losses.jsonl").open("ab") as file:
        file.write(b'{"step": 3, "lo')  # torn by a crash
    Journal(tmp_path, 0, 2)
    assert write_ledger(tmp_path, tmp_path / "ledger.parquet") == 4
    assert [row["step"] for row in read_losses(tmp_path)] == [0, 1]
    write_losses(read_losses(tmp_path), tmp_path / "losses.csv")
    assert (tmp_path / "losses.csv").read_text() == "step,loss\n0,1.0\n1,0.5\n"


def test_summary_is_of_the_first_and_last_tenth():
    rows = [{"step": s, "loss": float(s), "learning_rate": 1.0} for s in range(20)]
    assert summarise(rows) == {"steps": 20, "first_loss": 0.5, "final_loss": 18.5}


def test_the_rate_rises_holds_and_falls():
    config = OptimizerConfig(**optimizer(steps=10, learning_rate=1.0, warmup_steps=4, decay_steps=3))
    rates = [scheduled_rate(config, step) for step in range(10)]
    assert rates == pytest.approx([0.25, 0.5, 0.75, 1, 1, 1, 1, 0.75, 0.5, 0.25])
    papers = replace(config, decay_steps=0)
    assert [scheduled_rate(papers, step) for step in range(3, 10)] == [1.0] * 7


def test_checkpoints_count_only_when_sealed(tmp_path):
    kept = Checkpoints(tmp_path, 0, lambda: None)
    assert kept.latest() is None

    def write(path):
        (path / "weights").write_bytes(b"w")

    def crash(path):
        write(path)
        raise RuntimeError("power cut")

    kept.save(1, write)
    with pytest.raises(RuntimeError):
        kept.save(2, crash)
    assert kept.latest() == 1
    kept.save(2, write)
    kept.save(3, write)
    assert sorted(p.name for p in tmp_path.glob("step-*")) == ["step-00000002", "step-00000003"]
    (kept.path(3) / "weights").write_bytes(b"x")
    assert kept.latest() == 2


@pytest.mark.parametrize(
    ("batch", "world", "limit", "expected"),
    [
        (8, 1, 8, (8, 1)),
        (8, 2, 8, (4, 1)),
        (8, 1, 4, (4, 2)),
        (6, 1, 4, (3, 2)),
        (32, 32, 1, (1, 1)),
        (7, 1, 4, (1, 7)),
    ],
)
def test_splitting_the_global_batch(batch, world, limit, expected):
    assert split_batch(batch, world, Machine(limit, 1, {})) == expected


def test_a_batch_that_does_not_divide_is_refused():
    with pytest.raises(InputError, match="global_batch 7 is no multiple of 2 devices"):
        split_batch(7, 2, Machine(4, 1, {}))


def test_machine_files(root, tmp_path, monkeypatch):
    monkeypatch.delenv("TAVR_DEEPSPEED", raising=False)
    for path in (root / "infra/deepspeed").glob("*.json"):
        monkeypatch.setenv("TAVR_DEEPSPEED", str(path))
        assert read_machine(root).micro_batch_per_device >= 1
    monkeypatch.setenv("TAVR_DEEPSPEED", str(tmp_path / "none.json"))
    with pytest.raises(InputError, match="no such machine file"):
        read_machine(root)
    (tmp_path / "odd.json").write_text(json.dumps({"gpus": 8}))
    monkeypatch.setenv("TAVR_DEEPSPEED", str(tmp_path / "odd.json"))
    with pytest.raises(InputError, match="not a machine file"):
        read_machine(root)
