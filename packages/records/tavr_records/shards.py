"""Safetensors shards addressed by clip id prefix, with the byte offset of every tensor."""

import json
import struct
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors.numpy import save

from tavr_records.atomic import write_bytes


def shard_name(clip_id: str, shard_bits: int) -> str:
    """The shard file of a clip: `shard-<hex prefix>.safetensors`, one of 2**shard_bits.

    Raises:
        ValueError: shard_bits outside 0..16.
    """
    if not 0 <= shard_bits <= 16:
        raise ValueError(f"shard_bits is {shard_bits}, not within 0..16")
    digits = max(1, -(-shard_bits // 4))
    prefix = int(clip_id[:4], 16) >> (16 - shard_bits)
    return f"shard-{prefix:0{digits}x}.safetensors"


def group_by_shard(clip_ids: list[str], shard_bits: int) -> dict[str, list[str]]:
    """Clip ids by shard file name, both sorted."""
    groups: dict[str, list[str]] = defaultdict(list)
    for clip_id in sorted(clip_ids):
        groups[shard_name(clip_id, shard_bits)].append(clip_id)
    return dict(sorted(groups.items()))


def tensor_offsets(data: bytes) -> dict[str, tuple[int, int]]:
    """Absolute (first byte, byte count) of each tensor of a serialised safetensors file."""
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    base = 8 + length
    return {
        name: (base + entry["data_offsets"][0], entry["data_offsets"][1] - entry["data_offsets"][0])
        for name, entry in header.items()
        if name != "__metadata__"
    }


def write_shard(path: Path, tensors: Mapping[str, np.ndarray]) -> dict[str, tuple[int, int]]:
    """Write tensors (C order) to one shard atomically; return each tensor's (offset, bytes).

    bfloat16 goes in as ml_dtypes.bfloat16 arrays.
    """
    data = save({name: np.ascontiguousarray(array) for name, array in sorted(tensors.items())})
    write_bytes(path, data)
    return tensor_offsets(data)
