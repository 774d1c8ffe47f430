"""Which images of two sets are the same, whatever they are called."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path

from mllm.images import FileImage, ImageRef


def shared_images(first: Iterable[ImageRef], second: Iterable[ImageRef]) -> dict[ImageRef, ImageRef]:
    """Images of the second set that the first one has too -> the same image there.

    Files are compared byte for byte, and only those of the same length are read. Where an image is no file (in an
    archive, in memory, at a URL), all are compared by their pixels.

    Raises:
        ImageError: an image cannot be read.
    """
    mine, others = list(dict.fromkeys(first)), list(dict.fromkeys(second))
    if not mine or not others:
        return {}
    if not all(isinstance(ref, FileImage) for ref in (*mine, *others)):
        return _equal(mine, others, _pixels)
    lengths = _equal(mine, others, _length)
    known = {_length(ref) for ref in lengths.values()}
    return _equal([ref for ref in mine if _length(ref) in known], list(lengths), _bytes)


def _equal(
    mine: Iterable[ImageRef], others: Iterable[ImageRef], key: Callable[[ImageRef], bytes]
) -> dict[ImageRef, ImageRef]:
    by_key: dict[bytes, ImageRef] = {}
    for ref in mine:
        by_key.setdefault(key(ref), ref)
    keys = {ref: key(ref) for ref in others}
    return {ref: by_key[found] for ref, found in keys.items() if found in by_key}


def _length(ref: ImageRef) -> bytes:
    return str(_file(ref).stat().st_size).encode()


def _bytes(ref: ImageRef) -> bytes:
    with _file(ref).open("rb") as file:
        return hashlib.file_digest(file, "blake2b").digest()


def _file(ref: ImageRef) -> Path:
    assert isinstance(ref, FileImage)
    path = Path(ref.path)
    if not path.is_file():
        ref.open()  # says what is wrong
    return path


def _pixels(ref: ImageRef) -> bytes:
    image = ref.open()
    return hashlib.blake2b(repr(image.size).encode() + image.tobytes()).digest()
