"""Texts -> whole numbers, for more keys than a process should hold: a sorted table on disk that processes share."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mllm.dataset.files.derived import cached_array, probes
from mllm.dataset.files.jsonl import IndexedJsonl
from mllm.errors import DataError


class Keys:
    """A `key_table`. Keys are held as hashes of 64 bits; two equal ones are refused when it is made."""

    def __init__(self, table: NDArray[np.int64]) -> None:
        self._table = table

    def __len__(self) -> int:
        return len(self._table)

    def find(self, key: str) -> tuple[int, ...] | None:
        """The numbers of a key; None where it is not known."""
        wanted = _hash(key)
        row = int(np.searchsorted(self._table[:, 0], wanted))
        if row == len(self._table) or self._table[row, 0] != wanted:
            return None
        return tuple(self._table[row, 1:].tolist())


def key_table(rows: Iterable[tuple[str, tuple[int, ...]]], *, source: str) -> NDArray[np.int64]:
    """int64 [keys, 1 + numbers]: keys as hashes, in order, and what belongs to each; `source` is what messages name.

    Raises:
        DataError: no row, or a key twice.
    """
    keys: list[str] = []
    numbers: list[tuple[int, ...]] = []
    for key, values in rows:
        keys.append(key)
        numbers.append((_hash(key), *values))
    if not keys:
        raise DataError(where=source, expected="at least one entry", found="none", kind="empty-file")
    array = np.array(numbers, np.int64)
    order = np.argsort(array[:, 0], kind="stable")
    array = array[order]
    twice = np.flatnonzero(array[1:, 0] == array[:-1, 0])
    if len(twice):
        twin = keys[int(order[int(twice[0])])]
        raise DataError(where=source, expected="each id once", found=f"{twin[:60]!r} twice", kind="duplicate-key")
    return array


def may_be_keys(table: NDArray[np.int64], numbers: int) -> bool:
    """Whether an array can be a table with as many numbers for each key, as far as its shape and some rows show."""
    if table.ndim != 2 or table.shape[1] != 1 + numbers or not len(table):
        return False
    keys: list[int] = table[probes(len(table)), 0].tolist()
    return all(before < after for before, after in pairwise(keys))


def index_by_id(lines: IndexedJsonl) -> Keys:
    """Which record of a file that was read by `entries` holds an id."""
    suffix = f"{'.'.join(('', *(lines.entries or ())))}.ids.npy"

    def make() -> NDArray[np.int64]:
        return key_table(((lines[number]["id"], (number,)) for number in range(len(lines))), source=lines.path)

    def fits(found: NDArray[np.int64]) -> bool:
        if len(found) != len(lines) or not may_be_keys(found, 1):
            return False
        rows = found[probes(len(found))].tolist()
        return all(0 <= number < len(lines) and _hash(lines[number]["id"]) == key for key, number in rows)

    return Keys(cached_array(Path(lines.path), suffix, "record keys", make, fits))


def _hash(key: str) -> int:
    return int.from_bytes(
        hashlib.blake2b(key.encode(errors="surrogatepass"), digest_size=8).digest(), "little", signed=True
    )
