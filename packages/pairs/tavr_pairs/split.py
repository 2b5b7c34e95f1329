"""Identities as connected components, and the benchmark cut off by them (paper, section 4, "Benchmark Dataset")."""

import itertools
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from tavr_records.ids import sha256_bytes

_BLOCK = 4096


@dataclass(frozen=True)
class GoodPair:
    """Two clips of one person in two scenes that passed every threshold; `first` < `second` by clip id."""

    pair_id: str
    first: str
    second: str
    person_id: str
    id_similarity: float
    background_psnr: float


def identities(person_ids: Sequence[str], mean_faces: NDArray[np.float32], link_similarity: float) -> list[str]:
    """The identity of each clip: the smallest person id of its component.

    Clips are linked when they carry one label, and when their mean faces (unit or zero rows, float32 [n, D]) have at
    least the cosine `link_similarity` whatever the labels say. So one person under two labels is one identity, and a
    wrong label joins two people rather than splitting one between train and benchmark.
    """
    count = len(person_ids)
    if not count:
        return []
    first_with: dict[str, int] = {}
    labels = [first_with.setdefault(person, index) for index, person in enumerate(person_ids)]
    links = [np.stack([np.arange(count), np.asarray(labels, np.int64)], axis=1)]
    for start in range(0, count, _BLOCK):
        close = mean_faces[start : start + _BLOCK] @ mean_faces.T >= link_similarity
        rows, columns = np.nonzero(close)
        links.append(np.stack([rows + start, columns], axis=1))
    edges = np.concatenate(links)
    graph = coo_array((np.ones(len(edges), np.int8), (edges[:, 0], edges[:, 1])), shape=(count, count))
    _, component = connected_components(graph, directed=False)
    name: dict[int, str] = {}
    for person, index in zip(person_ids, component.tolist(), strict=True):
        name[index] = min(person, name.get(index, person))
    return [name[index] for index in component.tolist()]


def cut_benchmark(
    pairs: Sequence[GoodPair], identity: Mapping[str, str], rejected: set[str], people: int, seed: int
) -> dict[str, GoodPair]:
    """The benchmark: identity -> its one pair, the one of lowest background PSNR that no reviewer rejected.

    Identities come in the order of a seeded hash of their names, so that new people do not reshuffle the others.

    Args:
        pairs: every good pair.
        identity: clip id -> identity.
        rejected: pair ids a reviewer rejected.
        people: how many identities to keep for the benchmark.
        seed: of the hash.
    """
    eligible: dict[str, list[GoodPair]] = defaultdict(list)
    for pair in pairs:
        if pair.pair_id not in rejected:
            eligible[identity[pair.first]].append(pair)
    order = sorted(eligible, key=lambda name: sha256_bytes(f"{seed}|{name}".encode()))
    return {name: min(eligible[name], key=lambda p: (p.background_psnr, p.pair_id)) for name in order[:people]}


def label_pairs(person_ids: Mapping[str, str], source_keys: Mapping[str, str]) -> list[tuple[str, str]]:
    """Clip ids (smaller first) of every two clips of one person from two different sources, sorted."""
    clips: dict[str, list[str]] = defaultdict(list)
    for clip_id in sorted(person_ids):
        clips[person_ids[clip_id]].append(clip_id)
    return sorted(
        (first, second)
        for mine in clips.values()
        for first, second in itertools.combinations(mine, 2)
        if source_keys[first] != source_keys[second]
    )
