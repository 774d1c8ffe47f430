"""References to pictures: cheap to hold, compare and send to a worker; opened only when pixels are needed.

Two equal references are the same picture: a batch holds its pixels once.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Protocol, runtime_checkable

from PIL import Image, UnidentifiedImageError

from mllm.errors import DataError

MAX_PIXELS = 100_000_000
"""Largest picture (width x height) that is decoded: a bound on memory, and on decompression bombs."""


@runtime_checkable
class ImageRef(Protocol):
    """A picture that can be opened. Hashable; equal references are one picture."""

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels, without decoding."""
        ...

    def open(self) -> Image.Image:
        """The decoded picture, mode RGB."""
        ...


@dataclass(frozen=True, slots=True)
class FileImage:
    """A picture file on a local disk."""

    path: str

    @property
    def size(self) -> tuple[int, int]:
        return _header(self.path)

    def open(self) -> Image.Image:
        try:
            with closing(_checked(self.path)) as image:
                return image.convert("RGB")
        except OSError as error:
            raise DataError(f"{self.path}: cannot be decoded: {error}") from error


@dataclass(frozen=True, slots=True, eq=False)
class MemoryImage:
    """A picture already in memory; equal only to itself."""

    image: Image.Image = field(repr=False)

    @property
    def size(self) -> tuple[int, int]:
        return self.image.size

    def open(self) -> Image.Image:
        return self.image.convert("RGB")


def image_ref(source: object, folder: str | None = None) -> ImageRef:
    """The reference for what a dataset wrote: a path (under `folder`), a PIL image or a reference.

    Raises:
        DataError: any other type, or a URL (remote pictures are not supported yet).
    """
    if isinstance(source, Image.Image):
        return MemoryImage(source)
    if isinstance(source, (str, Path)):
        if "://" in str(source):
            raise DataError(f"{source}: remote pictures are not supported, give a local path")
        return FileImage(str(Path(folder or "") / source))
    if isinstance(source, ImageRef):
        return source
    raise DataError(f"expected a path or a PIL image, found {type(source).__name__}")


@lru_cache(maxsize=65536)
def _header(path: str) -> tuple[int, int]:
    with closing(_checked(path)) as image:
        return image.size


def _checked(path: str) -> Image.Image:
    try:
        image = Image.open(path)
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such picture") from error
    except (UnidentifiedImageError, OSError, Image.DecompressionBombError) as error:
        raise DataError(f"{path}: not a readable picture: {error}") from error
    width, height = image.size
    if width * height > MAX_PIXELS:
        image.close()
        raise DataError(f"{path}: {width} x {height} is more than {MAX_PIXELS} pixels")
    return image
