"""Flow matching (paper Eq. 6).

Time: t = 0 clean, t = 1 noise; velocity = noise - latents; the network reads t * 1000.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from tavr_model.shapes import Latents, SampleErrors, Times

TIMESTEP_SCALE = 1000.0


@dataclass(frozen=True)
class FlowPoint:
    """A point on the straight path from `latents` to `noise`: z_t = (1 - t) latents + t noise, y = noise - latents."""

    z_t: Latents
    velocity: Latents
    t: float

    @property
    def latents(self) -> Latents:
        """The clean end: z_t - t y."""
        return self.z_t - self.t * self.velocity

    @property
    def noise(self) -> Latents:
        """The noisy end: z_t + (1 - t) y."""
        return self.z_t + (1 - self.t) * self.velocity

    def to(self, device: torch.device) -> "FlowPoint":
        """The same point on another device."""
        return FlowPoint(self.z_t.to(device), self.velocity.to(device), self.t)


def flow_point(latents: Latents, noise: Latents, t: float) -> FlowPoint:
    """The point at time t in [0, 1] of the path between two tensors of one shape."""
    if latents.shape != noise.shape:
        raise ValueError(f"latents {tuple(latents.shape)} and noise {tuple(noise.shape)} differ in shape")
    if not 0.0 <= t <= 1.0:
        raise ValueError(f"t is {t}, not within 0..1")
    return FlowPoint((1 - t) * latents + t * noise, noise - latents, t)


def draw_time(generator: torch.Generator, logit_mean: float, logit_std: float) -> float:
    """A logit-normal time: sigmoid(mean + std * n), n standard normal."""
    return float(torch.sigmoid(logit_mean + logit_std * torch.randn((), generator=generator, dtype=torch.float64)))


def timesteps(points: Sequence[FlowPoint]) -> Times:
    """The times of a batch in the network's unit, float32 [B]."""
    return torch.tensor([point.t * TIMESTEP_SCALE for point in points], dtype=torch.float32)


def velocity_errors(predictions: Sequence[Latents], points: Sequence[FlowPoint]) -> SampleErrors:
    """Mean squared velocity error of each sample, [B]."""
    pairs = zip(predictions, points, strict=True)
    return torch.stack([(prediction.float() - point.velocity).square().mean() for prediction, point in pairs])
