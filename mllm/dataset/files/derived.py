"""What is made of annotation files once and kept in the cache, where processes share it.

An entry belongs to one path, size and modification time. One that was cut or changed, or is something else, is made
again: an array ends with a digest of all its numbers, a text with the number of its bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from mllm.cache import cache_folder, complete

BLANKS = str.maketrans("01", " \t")
"""By which a text that ends in blanks, which readers of JSON skip, holds a number."""
PROBED_ENTRIES = 64
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
            target.write(_digest(table, made))
        found = _mapped(table)
        assert found is not None, "written just now"
    return found


def _mapped(table: Path) -> NDArray[np.int64] | None:
    """The array in a file, if it is one of int64 and all there."""
    if not table.is_file():  # a pipe would be waited for
        return None
    try:
        found: Any = np.lib.format.open_memmap(table, mode="r")
        if found.dtype != np.int64:
            return None
        found = np.asarray(found)
        return found if ends_with(table, _digest(table, found)) else None
    except (OSError, ValueError):  # also one that another user keeps to himself
        return None


def _digest(table: Path, found: NDArray[np.int64]) -> bytes:
    """What follows the array in its file: no other array, nor the same of another source, has it."""
    digest = hashlib.blake2b(f"{table.name} {found.shape}".encode(), digest_size=16)
    digest.update(np.ascontiguousarray(found).data)
    return digest.digest()


def probes(count: int) -> list[int]:
    """Evenly spaced numbers from 0 to `count` - 1, both of them among these."""
    return np.unique(np.linspace(0, count - 1, min(count, PROBED_ENTRIES)).astype(int)).tolist() if count else []


def seal(target: BinaryIO) -> None:
    """End a JSON text with its length, in blanks."""
    target.write(_length(target.tell()))


def is_sealed(path: Path) -> bool:
    """Whether a text is there, and as long as `seal` says."""
    if not path.is_file():  # a pipe would be waited for
        return False
    blanks = len(_length(0))
    return ends_with(path, _length(path.stat().st_size - blanks))


def _length(size: int) -> bytes:
    return f"\n{max(0, size):064b}\n".translate(BLANKS).encode()


def ends_with(path: Path, end: bytes) -> bool:
    """Whether a file ends so."""
    try:
        with path.open("rb") as file:
            file.seek(-len(end), 2)
            return file.read() == end
    except OSError:  # also where it is shorter than that
        return False
