"""Keys that tell texts, lines and images apart, so that nothing larger need be held of each."""

from __future__ import annotations

import hashlib

from mllm.images import ImageRef, MemoryImage
from mllm.types import Item

NO_KEY = 0
"""Never the key of anything."""


def key64(text: str) -> int:
    """64 bits, of which two in ten million texts agree by chance once in 400,000 times."""
    return int.from_bytes(_hash(text, 8), "little") or 1


def key128(text: str) -> bytes:
    return _hash(text, 16)


def identity(ref: ImageRef, item: Item, place: int) -> str:
    """A text that equal references to images share; an image in memory is another in each item.

    `place`: its number in the item.
    """
    return f"{item.key} {place}" if isinstance(ref, MemoryImage) else repr(ref)


def _hash(text: str, size: int) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=size).digest()
