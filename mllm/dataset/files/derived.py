"""What is made of annotation files once and kept in the cache, where processes share it.

An entry belongs to one path, size and modification time. One that was cut, or is something else, is made again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mllm.cache import cache_folder, complete

PROBES = 64
"""Entries of an array that are compared with the file that they tell of, however long both are."""


def cached(source: Path, suffix: str) -> Path:
    """The name in the cache of what is derived from `source` as it is now."""
    state = source.stat()
    key = f"{source.resolve()}\0{state.st_size}\0{state.st_mtime_ns}"
    return cache_folder() / f"{source.stem}.{hashlib.sha256(key.encode()).hexdigest()[:24]}{suffix}"


def cached_array(
    source: Path,
    suffix: str,
    what: str,
    make: Callable[[], NDArray[np.int64]],
    fits: Callable[[NDArray[np.int64]], bool],
) -> NDArray[np.int64]:
    """What `make` gives of `source` as it is now; made once, and on disk, not in memory.

    Args:
        what: how messages call it.
        fits: whether an int64 array that lies there in its place can be it; few of its entries are looked at.

    Raises:
        ConfigError: the cache cannot be written.
    """
    table = cached(source, suffix)
    found = _mapped(table)
    if found is None or not fits(found):
        made = make()
        with complete(table, what) as target:
            np.save(target, made)
        found = _mapped(table)
        assert found is not None, "written just now"
    return found


def _mapped(table: Path) -> NDArray[np.int64] | None:
    """The array in a file, if it is one of int64 and all there."""
    if not table.is_file():  # a pipe would be waited for
        return None
    try:
        found = np.lib.format.open_memmap(table, mode="r")
    except (OSError, ValueError):  # also one that another user keeps to himself
        return None
    return np.asarray(found) if found.dtype == np.int64 else None


def probes(count: int) -> list[int]:
    """Evenly spaced numbers from 0 to `count` - 1, both of them among these."""
    return np.unique(np.linspace(0, count - 1, min(count, PROBES)).astype(int)).tolist() if count else []


def ends_with(path: Path, end: bytes) -> bool:
    """Whether a file is there and ends so: what is written last says that the rest is there too."""
    if not path.is_file():  # a pipe would be waited for
        return False
    try:
        with path.open("rb") as file:
            file.seek(-len(end), 2)
            return file.read() == end
    except OSError:  # also where it is shorter than that
        return False
