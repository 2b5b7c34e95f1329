"""The reference stream, computed once per clip.

Reference tokens attend to themselves only, carry time 0 and read a prompt and audio of their own (choices 4 and 5), so
their keys and values depend neither on the noisy latents nor on the time nor on the guidance branch. Every step of the
solver and every branch can share them; the result is that of the uncached path.
"""

from dataclasses import dataclass

from tavr_model.shapes import Heads

KeyValue = tuple[Heads, Heads]
"""One clip's reference keys (rotated) and values in one block."""


@dataclass(frozen=True)
class ReferenceCache:
    """One clip's reference tokens in the self-attention of every block, in block order.

    Attributes:
        keys: normalised and rotated keys [tokens, heads, head dim] a block.
        values: likewise the values.
        frames: tokens of each reference latent frame.
    """

    keys: tuple[Heads, ...]
    values: tuple[Heads, ...]
    frames: tuple[int, ...]

    def block(self, index: int) -> KeyValue:
        """Keys and values of block `index`."""
        return self.keys[index], self.values[index]

    @property
    def nbytes(self) -> int:
        """Memory it takes, in bytes."""
        return sum(tensor.nbytes for tensor in (*self.keys, *self.values))


class ReferenceRecorder:
    """Collects the keys and values of a pass over reference streams, block by block."""

    def __init__(self) -> None:
        self._blocks: list[list[KeyValue]] = []
        self._frames: list[tuple[int, ...]] = []

    def add(self, samples: list[KeyValue], frames: list[tuple[int, ...]]) -> None:
        """Take in one block's (keys, values) of each sample, and the tokens of each of its reference frames."""
        self._blocks.append(samples)
        self._frames = frames

    def caches(self) -> list[ReferenceCache]:
        """One cache a sample."""
        return [
            ReferenceCache(tuple(key for key, _ in blocks), tuple(value for _, value in blocks), frames)
            for blocks, frames in zip(zip(*self._blocks, strict=True), self._frames, strict=True)
        ]
