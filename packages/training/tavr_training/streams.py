"""Randomness named by what it is for: equal on one process or many, and after any interruption."""

import torch
from tavr_records.ids import canonical_json, sha256_bytes


def stream(seed: int, *name: str | int) -> torch.Generator:
    """A generator on the CPU that belongs to `name`, for example ("stage1", step, slot)."""
    digest = sha256_bytes(canonical_json([seed, *name]))
    return torch.Generator().manual_seed(int(digest[:15], 16))


class EpochSampler:
    """Walks a list of items in a new order each epoch, the same on any number of processes."""

    def __init__(self, items: int, global_batch: int, seed: int, stage: str) -> None:
        assert items > 0, "nothing to sample from"
        self._items, self._batch, self._seed, self._stage = items, global_batch, seed, stage
        self._epoch, self._order = -1, torch.zeros(0, dtype=torch.long)

    def item(self, step: int, slot: int) -> int:
        """Index of the item in `slot` of the global batch of `step`."""
        epoch, place = divmod(step * self._batch + slot, self._items)
        if epoch != self._epoch:
            self._order = torch.randperm(self._items, generator=stream(self._seed, self._stage, "epoch", epoch))
            self._epoch = epoch
        return int(self._order[place])
