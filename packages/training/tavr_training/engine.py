"""DeepSpeed: one process group, one engine. Nothing here needs a compiler, a launcher or a network."""

import atexit
import math
import os
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from diffusers.models.modeling_utils import ModelMixin
from tavr_model.shapes import Scalar
from torch import nn

from tavr_training.checkpoint import TAG
from tavr_training.config import OptimizerConfig
from tavr_training.machine import Machine, split_batch

QUIET = 10**9


@dataclass(frozen=True)
class Group:
    """This process among the processes of a training."""

    rank: int
    size: int

    def barrier(self) -> None:
        """Wait for all processes."""
        if self.size > 1:
            dist.barrier()

    def mean(self, value: Scalar) -> float:
        """The mean of a scalar over all processes."""
        total = value.detach().double().cpu()
        if self.size > 1:
            total = total.to(_device())
            dist.all_reduce(total)
        return float(total) / self.size

    def any(self, flag: bool) -> bool:
        """Whether the flag is set in any process."""
        return self.mean(torch.tensor(float(flag))) > 0


def _device() -> torch.device:
    if torch.cuda.is_available():
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    return torch.device("cpu")


def join_group() -> Group:
    """Join the group a launcher described in the environment (RANK, WORLD_SIZE), or be the only process.

    The group lasts as long as the process, since DeepSpeed keeps it in its own globals.
    """
    backend = "nccl" if torch.cuda.is_available() else "gloo"
    if not dist.is_initialized():
        if "RANK" in os.environ:
            dist.init_process_group(backend)
        else:
            os.environ.setdefault("LOCAL_RANK", "0")  # DeepSpeed asks for it
            dist.init_process_group(backend, store=dist.HashStore(), rank=0, world_size=1)
        atexit.register(dist.destroy_process_group)
    return Group(dist.get_rank(), dist.get_world_size())


def scheduled_rate(config: OptimizerConfig, step: int) -> float:
    """The learning rate of a step: linear rise, constant, linear fall over the last `decay_steps`."""
    rise = (step + 1) / max(1, config.warmup_steps)
    fall = (config.steps - step) / (config.decay_steps + 1)
    return config.learning_rate * min(1.0, rise, fall)


class Engine:
    """A model under DeepSpeed with AdamW. `module` is called as the model itself."""

    def __init__(self, model: ModelMixin, optimizer: OptimizerConfig, machine: Machine, group: Group) -> None:
        deepspeed = _import_deepspeed()
        self.micro_batch, self.accumulation = split_batch(optimizer.global_batch, group.size, machine)
        self._config, self._grad_norm = optimizer, 0.0
        if machine.gradient_checkpointing:
            model.enable_gradient_checkpointing()
        # Without ZeRO every process holds all averaged gradients; limiting them here tells their norm.
        self._limit_here = machine.deepspeed.get("zero_optimization", {}).get("stage", 0) == 0
        adamw = torch.optim.AdamW(
            model.parameters(),
            lr=optimizer.learning_rate,
            betas=(optimizer.beta1, optimizer.beta2),
            weight_decay=optimizer.weight_decay,
            fused=True,
        )
        config: dict[str, Any] = {
            "steps_per_print": QUIET,
            "zero_allow_untested_optimizer": True,
            **machine.deepspeed,
            "train_micro_batch_size_per_gpu": self.micro_batch,
            "gradient_accumulation_steps": self.accumulation,
            "gradient_clipping": 0.0 if self._limit_here else optimizer.max_grad_norm,
        }
        self.module, *_ = deepspeed.initialize(model=model, optimizer=adamw, config=config)

    def learning_rate(self, step: int) -> float:
        """Set and return the rate of a step."""
        rate = scheduled_rate(self._config, step)
        for parameters in self.module.optimizer.param_groups:
            parameters["lr"] = rate
        return rate

    def accumulate(self, loss: Scalar) -> None:
        """Back-propagate one micro batch; the last one of a global batch also takes the optimizer step."""
        self.module.backward(loss)
        if self._limit_here and self.module.is_gradient_accumulation_boundary():
            norm = nn.utils.clip_grad_norm_(self.module.module.parameters(), self._config.max_grad_norm)
            self._grad_norm = float(norm)
            if not math.isfinite(self._grad_norm):
                return  # the weights stay as they are; the caller stops
        self.module.step()
        if not self._limit_here:
            self._grad_norm = float(self.module.get_global_grad_norm() or 0.0)

    def grad_norm(self) -> float:
        """The gradient norm of the last step before it was limited."""
        return self._grad_norm

    def save(self, directory: Path) -> None:
        """Write this process's part of a checkpoint."""
        self.module.save_checkpoint(str(directory), tag=TAG, save_latest=False)

    def load(self, directory: Path) -> None:
        """Read model and optimizer back."""
        self.module.load_checkpoint(str(directory), tag=TAG)

    @contextmanager
    def whole_weights(self) -> Generator[nn.Module]:
        """The plain model with all its weights in place, also when ZeRO-3 has spread them over processes."""
        model = self.module.module
        if not self.module.zero_optimization_partition_weights():
            yield model
            return
        with _import_deepspeed().zero.GatheredParameters(list(model.parameters()), modifier_rank=None):
            yield model


def _import_deepspeed() -> Any:
    """DeepSpeed, told that no operator needs compiling: its shared-memory one is optional, compilers are not assumed.

    Left alone it probes for all of them with whatever compiler it finds.
    """
    import deepspeed
    import deepspeed.ops

    deepspeed.ops.__dict__["__compatible_ops__"] = {"deepspeed_shm_comm": False}
    return deepspeed
