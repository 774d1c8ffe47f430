"""Which of many hashes and signatures are alike, in memory that grows with their number and not with that of pairs.

Entries are numbered from 0, those of training first. Of each that has others like it one partner is wanted: the nearest
in training for an entry of a test set, else the nearest before it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import combinations, pairwise
from math import comb

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.int64]
Pairs = tuple[Numbers, Numbers, Numbers]
"""First entries, second entries behind them, and how far apart they are, a whole number."""

BITS = 64
CHUNK = 1 << 16
"""Pairs that are compared at a time."""
LARGEST_BUCKET = 10_000
"""Entries with the same key are compared with as many of those before them; it takes more only where templates fill a
set with near copies."""
_NONE = np.iinfo(np.int64).max
_PLACE = 40
"""Bits of an entry's number, under those of how far apart it is: the least is the nearest, then the first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Partners:
    """For each of `entries`, in order: another one like it, and how far `apart` they are; all int64 [alike]."""

    entries: Numbers
    others: Numbers
    apart: Numbers

    def __len__(self) -> int:
        return len(self.entries)


class Comparison:
    """Pairs as they are found. `left_out`: entries with more than `LARGEST_BUCKET` of their key before them."""

    def __init__(self) -> None:
        self.left_out = 0

    def candidates(self, keys: NDArray[np.uint64]) -> Iterator[tuple[Numbers, Numbers]]:
        """All pairs of entries with equal keys, the first before the second, some at a time."""
        order = np.argsort(keys, kind="stable")
        ranked = keys[order]
        starts = np.flatnonzero(ranked[1:] == ranked[:-1])
        step = 1
        while len(starts):
            if step > LARGEST_BUCKET:
                self.left_out += len(starts)
                return
            for first in range(0, len(starts), CHUNK):
                chunk = starts[first : first + CHUNK]
                yield order[chunk], order[chunk + step]
            step += 1
            # equal keys stand side by side: who has no equal at this distance has none further on
            starts = starts[starts + step < len(ranked)]
            starts = starts[ranked[starts + step] == ranked[starts]]


def first_equal(keys: NDArray[np.uint64]) -> Numbers:
    """int64 [entries]: the first entry whose key equals that of each; `keys`: [entries, words]."""
    order = np.lexsort(keys.T[::-1])
    ranked = keys[order]
    new = np.ones(len(keys), bool)
    new[1:] = (ranked[1:] != ranked[:-1]).any(axis=1)
    same = np.empty(len(keys), np.int64)
    same[order] = order[np.flatnonzero(new)][np.cumsum(new) - 1]  # lexsort is stable: the first of equal ones is least
    return same


def near_hashes(hashes: NDArray[np.uint64], bits: int, comparison: Comparison) -> Iterator[Pairs]:
    """Hashes of 64 bits that differ in 1 to `bits` bits; a pair may come several times.

    Of so many stretches that are cut, all but `bits` are equal in two such hashes: for each choice of stretches, those
    with the same bits there are compared. More stretches are more choices, and fewer hashes with the same bits.

    Source: Manku et al. 2007, Detecting Near-Duplicates for Web Crawling.
    """
    count = _stretches(len(hashes), bits)
    edges = [round(number * BITS / count) for number in range(count + 1)]
    masks = [((1 << high) - 1) ^ ((1 << low) - 1) for low, high in pairwise(edges)]
    for chosen in combinations(masks, count - bits):
        mask = np.uint64(sum(chosen))
        for first, second in comparison.candidates(hashes & mask):
            apart = _ones(hashes[first] ^ hashes[second])
            near = (apart > 0) & (apart <= bits)
            yield first[near], second[near], apart[near]


def _stretches(entries: int, bits: int) -> int:
    """How many stretches cost least: a table is sorted for each choice, in which each is compared with its equals."""

    def cost(count: int) -> float:
        equal_bits = BITS * (count - bits) / count
        return comb(count, bits) * (30 + entries / 2**equal_bits)  # sorting costs about 30 comparisons an entry

    return min(range(bits + 1, bits + 5), key=cost)


def _ones(numbers: NDArray[np.uint64]) -> Numbers:
    return np.unpackbits(numbers.view(np.uint8).reshape(len(numbers), 8), axis=1).sum(axis=1, dtype=np.int64)


def near_signatures(
    bands: Iterable[NDArray[np.uint64]],
    signatures: Callable[[Numbers], NDArray[np.uint32]],
    similarity: float,
    comparison: Comparison,
) -> Iterator[Pairs]:
    """Entries whose signatures agree in a share of at least `similarity` of their places, `apart` in the others.

    Args:
        bands: for each band a key of every entry; entries are compared where one is equal.
        signatures: of these entries, uint32 [entries, places].
    """
    for keys in bands:
        for first, second in comparison.candidates(keys):
            agree = signatures(first) == signatures(second)
            apart = np.int64(agree.shape[1]) - agree.sum(axis=1, dtype=np.int64)
            near = agree.sum(axis=1) / agree.shape[1] >= similarity
            yield first[near], second[near], apart[near]


def partners(same: Numbers, pairs: Iterable[Pairs], training: int) -> Partners:
    """One partner for each entry that has one.

    Args:
        same: the first entry equal to each; `pairs` are of these first entries.
        training: entries of training, which come first.
    """
    before = np.full(len(same), _NONE)
    in_training = np.full(len(same), _NONE)
    for first, second, apart in pairs:
        found = (apart << _PLACE) | first
        np.minimum.at(before, second, found)
        leaks = (second >= training) & (first < training)
        np.minimum.at(in_training, second[leaks], found[leaks])
    entries = np.arange(len(same))
    copies = same != entries
    # an equal entry is nearest; of a test entry one in training goes before
    best = np.where(copies, same, np.where(in_training < _NONE, in_training, before))
    elsewhere = copies & (entries >= training) & (same >= training) & (in_training[same] < _NONE)
    best[elsewhere] = in_training[same[elsewhere]]
    found = np.flatnonzero(best < _NONE)
    best = best[found]
    return Partners(entries=found, others=best & ((1 << _PLACE) - 1), apart=best >> _PLACE)
