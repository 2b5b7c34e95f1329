"""The training loop of all three stages: draw, collate, step, write down; stop and carry on at any step.

A stage gives two functions, as LTX's trainer asks for: `draw(step, slot)` prepares one sample, `loss(model, batch)`
computes named scalars. Everything a sample needs is drawn from its own random stream, so a run that was interrupted,
or split over processes, sees the same samples.
"""

import math
import signal
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from diffusers.models.modeling_utils import ModelMixin
from tavr_model.shapes import Scalar
from tavr_records.atomic import full_disk_named, write_bytes
from tavr_records.errors import InputError
from tavr_records.ids import canonical_json
from tavr_records.memo import stage_output
from tavr_records.schemas import Consumed
from torch import nn
from tqdm import tqdm

from tavr_training.checkpoint import Checkpoints
from tavr_training.config import NumericsConfig, OptimizerConfig
from tavr_training.digest import training_directory
from tavr_training.engine import Engine, Group, join_group
from tavr_training.journal import Journal, read_losses, write_ledger, write_losses
from tavr_training.machine import Machine, read_machine
from tavr_training.metrics import summarise, write_metrics

DTYPES = ("float32", "bfloat16")


class Drawn(Protocol):
    """A drawn sample carries its row of the ledger."""

    @property
    def consumed(self) -> Consumed:
        """The row."""
        ...


Sample = TypeVar("Sample", bound=Drawn)


@dataclass(frozen=True)
class Training:
    """One training: its name, its choices, where its resumable state and its outputs go."""

    stage: str
    optimizer: OptimizerConfig
    numerics: NumericsConfig
    machine: Machine
    work: Path
    out: Path


class TrainingSection(Protocol):
    """What every training stage's parameter section holds."""

    optimizer: OptimizerConfig
    numerics: NumericsConfig


def open_training(stage: str, config: TrainingSection, inputs: Sequence[Path], root: Path) -> Training:
    """The training of `stage` under `root`; `inputs` are the files and folders it reads.

    Raises:
        InputError: an input or the machine file is missing.
    """
    machine = read_machine(root)
    work = training_directory(stage, config, machine, inputs, root)
    return Training(stage, config.optimizer, config.numerics, machine, work, root / "data" / stage)


class _Stop:
    """Set by SIGINT or SIGTERM; a second signal interrupts at once."""

    def __init__(self) -> None:
        self.asked = False

    @contextmanager
    def listening(self) -> Generator[None]:
        """Catch the signals within the block."""
        before = {number: signal.signal(number, self._ask) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _ask(self, *_: Any) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True


def train(
    training: Training,
    model: ModelMixin,
    draw: Callable[[int, int], Sample],
    loss: Callable[[nn.Module, list[Sample]], dict[str, Scalar]],
) -> None:
    """Train `model` in place and write `model/`, `ledger.parquet`, `losses.csv` and `metrics.json`.

    `draw` makes the sample of (step, slot in the global batch); `loss` gives named scalars, means over the batch, of
    which the one called `loss` is minimised.

    Raises:
        InputError: a loss that is not finite (names step and clips), an unknown dtype.
        KeyboardInterrupt: after the state was saved, when SIGINT or SIGTERM asked to stop.
    """
    if training.numerics.dtype not in DTYPES:
        raise InputError(f"numerics.dtype is {training.numerics.dtype!r}; choose one of {', '.join(DTYPES)}")
    torch.set_num_threads(training.numerics.threads)
    stop = _Stop()
    with stop.listening():
        group = join_group()
        engine = Engine(model.train(), training.optimizer, training.machine, group)
        checkpoints = Checkpoints(training.work, group.rank, group.barrier)
        start = checkpoints.latest() or 0
        if start:
            engine.load(checkpoints.path(start))
        journal = Journal(training.work, group.rank, start)
        steps = training.optimizer.steps
        bar = tqdm(range(start, steps), training.stage, steps, initial=start, unit="step", disable=group.rank > 0)
        began = time.monotonic()
        for step in bar:
            values = _step(training, engine, group, journal, step, draw, loss)
            journal.record(values)
            bar.set_postfix(loss=f"{values['loss']:.4f}")
            stopping = group.any(stop.asked)
            if stopping or step + 1 == steps or (step + 1) % training.machine.checkpoint_every_steps == 0:
                checkpoints.save(step + 1, engine.save)
            if stopping and step + 1 < steps:
                raise KeyboardInterrupt
        _write_timing(training, group, steps - start, time.monotonic() - began)
        with engine.whole_weights() as whole:
            if group.rank == 0:
                _write_outputs(training, whole)
        group.barrier()


def _step(  # noqa: PLR0913 - the loop's working parts
    training: Training,
    engine: Engine,
    group: Group,
    journal: Journal,
    step: int,
    draw: Callable[[int, int], Sample],
    loss: Callable[[nn.Module, list[Sample]], dict[str, Scalar]],
) -> dict[str, Any]:
    """One optimizer step over the global batch; its recorded values, means over the batch."""
    rate = engine.learning_rate(step)
    sums: dict[str, float] = {}
    for part in range(engine.accumulation):
        first = (part * group.size + group.rank) * engine.micro_batch
        batch = [draw(step, slot) for slot in range(first, first + engine.micro_batch)]
        journal.consume(sample.consumed for sample in batch)
        with torch.autocast(next(engine.module.parameters()).device.type, torch.bfloat16, _lower(training.numerics)):
            terms = loss(engine.module, batch)
        for name, value in terms.items():
            sums[name] = sums.get(name, 0.0) + group.mean(value) / engine.accumulation
        _require_finite(sums["loss"], "loss", step, batch)
        engine.accumulate(terms["loss"])
        _require_finite(engine.grad_norm(), "gradient norm", step, batch)
    return {"step": step, "learning_rate": rate, "grad_norm": engine.grad_norm(), **sums}


def _lower(numerics: NumericsConfig) -> bool:
    return numerics.dtype == "bfloat16"


def _require_finite(value: float, name: str, step: int, batch: Sequence[Drawn]) -> None:
    if not math.isfinite(value):
        clips = sorted({clip for sample in batch for clip in sample.consumed.clip_ids})
        raise InputError(
            f"step {step}: {name} is {value}; the checkpoints before it are kept. Look at clips {', '.join(clips)}, "
            "or lower optimizer.learning_rate"
        )


def _write_timing(training: Training, group: Group, steps: int, seconds: float) -> None:
    """Wall-clock figures, beside the resumable state: they belong to the machine, not to the result."""
    if group.rank == 0 and steps:
        timing = {"steps": steps, "seconds": round(seconds, 3), "processes": group.size}
        write_bytes(training.work / "timing.json", canonical_json(timing))


def _write_outputs(training: Training, model: Any) -> None:
    """Model, ledger, losses and metrics, all or nothing."""
    with stage_output(training.out) as out:
        model.register_to_config(_name_or_path="")  # where it started is in the record, not in the bytes
        with full_disk_named(training.out / "model", out / "model"):
            model.save_pretrained(out / "model")
        write_ledger(training.work, out / "ledger.parquet")
        rows = read_losses(training.work)
        write_losses(rows, out / "losses.csv")
        samples = len(rows) * training.optimizer.global_batch
        write_metrics(out / "metrics.json", {**summarise(rows), "samples": samples})
