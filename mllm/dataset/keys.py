"""Texts -> whole numbers, for more keys than a process should hold: a sorted table on disk that processes share."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mllm.cache import complete
from mllm.dataset.lines import Lines, cached
from mllm.errors import DataError


class Keys:
    """A table made by `write_keys`. Keys are held as hashes of 64 bits; two equal ones are refused when it is made."""

    def __init__(self, table: Path) -> None:
        self._table: NDArray[np.int64] = np.load(table, mmap_mode="r")

    def __len__(self) -> int:
        return len(self._table)

    def find(self, key: str) -> tuple[int, ...] | None:
        """The numbers of a key; None where it is not known."""
        wanted = _hash(key)
        row = int(np.searchsorted(self._table[:, 0], wanted))
        if row == len(self._table) or self._table[row, 0] != wanted:
            return None
        return tuple(self._table[row, 1:].tolist())


def write_keys(table: Path, rows: Iterable[tuple[str, tuple[int, ...]]], *, source: str) -> None:
    """Write the table of (key, numbers), as many numbers for each; `source` names the file in messages.

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
        raise DataError(f"duplicate key {twin[:60]!r}", where=source, kind="duplicate-key")
    with complete(table, "record keys") as target:
        np.save(target, array)


def by_id(lines: Lines) -> Keys:
    """Which record of a file that was read by `entries` holds an id."""
    table = cached(Path(lines.path), f"{'.'.join(('', *(lines.entries or ())))}.ids.npy")
    if not table.exists():
        numbered = ((lines[number]["id"], (number,)) for number in range(len(lines)))
        write_keys(table, numbered, source=lines.path)
    return Keys(table)


def _hash(key: str) -> int:
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "little", signed=True)
