"""Bytes of a training and of a generation: model states by ZeRO stage, activations counted on the meta device."""

import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tavr_model.conditions import SampleInputs
from tavr_model.cost import BFLOAT16_BYTES, meta_transformer, sample_streams, transformer_shape
from tavr_model.transformer import TAVRTransformer3DModel

WEIGHT_BYTES, GRADIENT_BYTES, OPTIMIZER_BYTES = 2, 2, 12
ZERO_STAGES = (0, 1, 2, 3)


@dataclass(frozen=True)
class ModelStates:
    """Bytes on each GPU, in mixed precision with AdamW (ZeRO, arXiv 1910.02054, section 3.1).

    Attributes:
        weights: bfloat16. gradients: bfloat16.
        optimizer: float32 weights, first and second moments.
    """

    weights: int
    gradients: int
    optimizer: int

    @property
    def total(self) -> int:
        """All three."""
        return self.weights + self.gradients + self.optimizer


@dataclass(frozen=True)
class Activations:
    """Bytes of bfloat16 activations on one GPU.

    Attributes:
        checkpointed: kept for the backward pass with every block checkpointed: its inputs, and one block's whole.
        kept: the same with no block checkpointed.
        inference: most bytes alive at once in a pass without gradients.
    """

    checkpointed: int
    kept: int
    inference: int


def model_states(parameters: int, gpus: int, zero_stage: int) -> ModelStates:
    """Bytes a GPU; stage 1 divides the optimizer's states by `gpus`, 2 also the gradients, 3 also the weights."""

    def share(size: int, first_stage: int) -> int:
        return -(-parameters * size // (gpus if zero_stage >= first_stage else 1))

    return ModelStates(share(WEIGHT_BYTES, 3), share(GRADIENT_BYTES, 2), share(OPTIMIZER_BYTES, 1))


def count_activations(
    config: Mapping[str, Any], training: Sequence[SampleInputs], inference: Sequence[SampleInputs]
) -> Activations:
    """Count the activations of a batch in training and of another in inference.

    The network runs on the meta device with one and with two blocks, since all blocks are equal. Attention is taken to
    be a fused kernel that keeps query, key, value, output and one number a query (FlashAttention). Gradients, the
    optimizer's temporaries, collectives' buffers and fragmentation are not counted.
    """
    one, two = (saved_bytes(_lower_precision(config, layers), training) for layers in (1, 2))
    block, outside = two - one, 2 * one - two
    model = meta_transformer(config)
    shape = transformer_shape(model)
    tokens = sum(sample_streams(model, sample)[0].total for sample in training)
    inputs = shape.layers * tokens * shape.width * BFLOAT16_BYTES
    return Activations(inputs + block + outside, shape.layers * block + outside, _peak_bytes(config, inference))


class _FusedAttention(torch.autograd.Function):
    """Keeps what a fused attention keeps; computes nothing."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        out = torch.empty_like(query)
        ctx.save_for_backward(query, key, value, out, query.new_empty(query.shape[:-1], dtype=torch.float32))
        return out


class _FuseAttention(TorchFunctionMode):
    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        del types
        named = kwargs or {}
        if func is F.scaled_dot_product_attention and named["query"].is_meta:  # as diffusers' dispatcher calls it
            return _FusedAttention.apply(named["query"], named["key"], named["value"])
        return func(*args, **named)


class _LiveBytes(TorchDispatchMode):
    """Bytes of the storages alive that were made within, not `before`; `peak` is the most there were."""

    def __init__(self, before: Iterable[Tensor]) -> None:
        super().__init__()
        self.live, self.peak = 0, 0
        self._known: weakref.WeakSet[Any] = weakref.WeakSet(tensor.untyped_storage() for tensor in before)

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        del types
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, Tensor) and leaf.is_meta:
                self._take(leaf.untyped_storage())
        return out

    def _take(self, storage: Any) -> None:
        if storage in self._known:
            return
        self._known.add(storage)
        size = storage.nbytes()
        self.live += size
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self._free, size)

    def _free(self, size: int) -> None:
        self.live -= size


def _lower_precision(config: Mapping[str, Any], layers: int) -> TAVRTransformer3DModel:
    model = meta_transformer({**config, "num_layers": layers})
    nn.Module.to(model, torch.bfloat16)
    return model


def saved_bytes(model: TAVRTransformer3DModel, samples: Sequence[SampleInputs]) -> int:
    """Bytes that autograd keeps of a forward pass, parameters aside, every storage once; attention fused on meta."""
    device = model.device
    own = {parameter.untyped_storage() for parameter in model.parameters()}
    kept: set[Any] = set()

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage not in own:
            kept.add(storage)
        return tensor

    with _FuseAttention(), saved_tensors_hooks(keep, lambda tensor: tensor):
        model(samples, torch.zeros(len(samples), device=device))
    return sum(storage.nbytes() for storage in kept)


@torch.no_grad()
def _peak_bytes(config: Mapping[str, Any], samples: Sequence[SampleInputs]) -> int:
    model = _lower_precision(config, 1)
    with _FuseAttention(), _LiveBytes([*model.parameters(), *model.buffers()]) as counted:
        model(samples, torch.empty(len(samples), device="meta"))
    return counted.peak
