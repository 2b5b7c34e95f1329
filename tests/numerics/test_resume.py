"""Interrupted and carried on equals uninterrupted, to the byte: weights, ledger and losses."""

import json
import logging
import os
import signal
from dataclasses import dataclass
from pathlib import Path

import pytest
from tavr_records.errors import InputError
from tavr_records.manifest import read_manifest
from tavr_records.schemas import Consumed
from tavr_training.config import ConditionsConfig, NumericsConfig, OptimizerConfig, TimesConfig
from tavr_training.dataset import LatentStore
from tavr_training.draws import Example, draw_flow_sample, flow_loss
from tavr_training.loop import Training, train
from tavr_training.machine import Machine
from tavr_training.streams import EpochSampler, stream
from tiny_models import tavr
from training_world import clip_name, flow_section, optimizer, write_latents

STEPS = 5
OUTPUTS = ("model/diffusion_pytorch_model.safetensors", "ledger.parquet", "losses.csv", "metrics.json")


@dataclass
class Bench:
    """A tiny training that can be disturbed at (step, slot)."""

    root: Path
    store: LatentStore
    micro_batch: int = 2

    def run(self, name: str, disturb=None, **changes) -> bytes:
        section = flow_section(optimizer=optimizer(steps=STEPS, **changes))
        conditions, times = ConditionsConfig(**section["conditions"]), TimesConfig(**section["times"])
        examples = [Example(clip_name(p, 0), clip_name(p, 0)) for p in range(3)]
        options = OptimizerConfig(**section["optimizer"])
        sampler = EpochSampler(len(examples), options.global_batch, 0, "stage1")

        def draw(step: int, slot: int):
            if disturb is not None:
                disturb(step, slot)
            example, generator = examples[sampler.item(step, slot)], stream(0, "stage1", step, slot)
            return draw_flow_sample(self.store, example, conditions, times, generator, ("stage1", step, slot))

        machine = Machine(self.micro_batch, 2, {"zero_optimization": {"stage": 0}})
        out = self.root / name / "out"
        train(
            Training("stage1", options, NumericsConfig(1, "float32"), machine, self.root / name / "work", out),
            tavr(), draw, flow_loss,
        )  # fmt: skip
        return b"".join((out / file).read_bytes() for file in OUTPUTS)


@pytest.fixture(scope="module")
def bench(tmp_path_factory) -> Bench:
    root = tmp_path_factory.mktemp("resume")
    write_latents(root / "latents", {clip_name(p, 0): f"p{p}" for p in range(3)})
    return Bench(root, LatentStore(root / "latents"))


@pytest.fixture(scope="module")
def whole(bench) -> bytes:
    return bench.run("whole")


def test_same_settings_twice_are_identical(bench, whole):
    assert bench.run("again") == whole


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_the_next_run_carries_on(bench, whole, number):
    def ask_to_stop(step: int, slot: int) -> None:
        if (step, slot) == (3, 1):
            os.kill(os.getpid(), number)

    name = f"signal-{number}"
    with pytest.raises(KeyboardInterrupt):
        bench.run(name, ask_to_stop)
    steps = []
    assert bench.run(name, lambda step, _slot: steps.append(step)) == whole
    assert min(steps) == 4  # step 3 was finished and saved


def test_a_crash_falls_back_to_the_last_checkpoint(bench, whole):
    def crash(step: int, slot: int) -> None:
        if (step, slot) == (3, 2):
            raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        bench.run("crash", crash)
    steps = []
    assert bench.run("crash", lambda step, _slot: steps.append(step)) == whole
    assert min(steps) == 2


def test_a_damaged_checkpoint_falls_back_to_the_one_before(bench, whole, caplog):
    bench.run("damaged")
    last = bench.root / "damaged/work" / f"step-{STEPS:08d}"
    file = next(path for path in last.rglob("*.pt"))
    file.write_bytes(file.read_bytes()[:-10])
    steps = []
    with caplog.at_level(logging.WARNING):
        assert bench.run("damaged", lambda step, _slot: steps.append(step)) == whole
    assert min(steps) == 4
    assert "damaged" in caplog.text


def test_only_two_checkpoints_are_kept(bench, whole):
    assert whole
    names = sorted(path.name for path in (bench.root / "whole/work").glob("step-*"))
    assert names == ["step-00000004", "step-00000005"]


def test_a_finished_training_only_writes_its_outputs_again(bench, whole):
    steps = []
    assert bench.run("whole", lambda step, _slot: steps.append(step)) == whole
    assert steps == []


def test_the_ledger_names_every_sample_of_every_step(bench, whole):
    assert whole
    rows = read_manifest(bench.root / "whole/out/ledger.parquet", Consumed)
    assert [(row.step, row.slot) for row in rows] == [(step, slot) for step in range(STEPS) for slot in range(4)]
    assert {clip for row in rows for clip in row.clip_ids} == {clip_name(p, 0) for p in range(3)}
    assert {row.segment for row in rows} == {"target0"}
    assert {row.ref_window for row in rows} <= {f"ref0[0:{r}]" for r in (1, 2, 3)}
    assert all(row.used for row in rows)


def test_accumulated_micro_batches_equal_one_batch(bench, whole):
    one = Bench(bench.root, bench.store, micro_batch=4)
    one.run("one-batch")
    rows = [(bench.root / name / "out/losses.csv").read_text().splitlines()[1:] for name in ("whole", "one-batch")]
    assert whole
    for a, b in zip(*rows, strict=True):
        for x, y in zip(a.split(","), b.split(","), strict=True):
            assert float(x) == pytest.approx(float(y), rel=1e-4)


def test_a_loss_that_is_not_finite_stops_and_names_the_clips(bench):
    with pytest.raises(InputError, match=f"step 1: .*Look at clips .*{clip_name(0, 0)[:8]}"):
        bench.run("diverged", learning_rate=1e30, warmup_steps=0)


def test_wall_clock_stays_out_of_the_outputs(bench, whole):
    assert whole
    timing = json.loads((bench.root / "whole/work/timing.json").read_text())
    assert timing["processes"] == 1
    assert b"seconds" not in (bench.root / "whole/out/metrics.json").read_bytes()
