"""Muon (Keller Jordan, 2024): momentum whose matrices are orthogonalised, so that weak directions are learnt too."""

import torch
from torch import Tensor, nn


def orthogonalise(matrix: Tensor, steps: int = 5) -> Tensor:
    """Newton-Schulz iteration towards the nearest semi-orthogonal matrix of [rows, columns]."""
    x = (matrix / (matrix.norm() + 1e-7)).bfloat16()
    wide = x if x.shape[0] <= x.shape[1] else x.T
    for _ in range(steps):
        square = wide @ wide.T
        wide = 3.4445 * wide + (-4.7750 * square + 2.0315 * square @ square) @ wide
    return (wide if x.shape[0] <= x.shape[1] else wide.T).to(matrix.dtype)


class MuonWithAdamW:
    """Muon for convolution and linear kernels, AdamW for the rest."""

    def __init__(self, model: nn.Module, muon_rate: float, adam_rate: float, adam_names: tuple[str, ...] = ()) -> None:
        """Parameters whose name holds one of `adam_names` go to AdamW, whatever their shape."""
        self.kernels = [
            p
            for name, p in model.named_parameters()
            if p.ndim >= 2 and min(p.shape[0], p[0].numel()) > 1 and not any(part in name for part in adam_names)
        ]
        kernels = {id(p) for p in self.kernels}
        rest = [p for p in model.parameters() if id(p) not in kernels]
        self.momentum = [torch.zeros_like(p) for p in self.kernels]
        self.adam = torch.optim.AdamW(rest, lr=adam_rate, betas=(0.9, 0.98))
        self.muon_rate, self.adam_rate = muon_rate, adam_rate

    @torch.no_grad()
    def step(self, factor: float) -> None:
        """One update with both learning rates multiplied by `factor`; clears the gradients."""
        self.adam.param_groups[0]["lr"] = self.adam_rate * factor
        self.adam.step()
        self.adam.zero_grad()
        for kernel, momentum in zip(self.kernels, self.momentum, strict=True):
            if kernel.grad is None:
                continue
            momentum.mul_(0.95).add_(kernel.grad)
            update = (kernel.grad + 0.95 * momentum).flatten(1)
            scale = max(1.0, update.shape[0] / update.shape[1]) ** 0.5
            kernel.add_(orthogonalise(update).view_as(kernel), alpha=-self.muon_rate * factor * scale)
            kernel.grad = None
