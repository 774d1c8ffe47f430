"""References to pictures: cheap to hold, compare and send to a worker; opened only when pixels are needed.

Two equal references are the same picture: a batch holds its pixels once.
"""

from __future__ import annotations

import base64
import binascii
import os
from contextlib import closing
from dataclasses import dataclass, field
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import IO, Protocol, runtime_checkable

from PIL import Image, UnidentifiedImageError

from mllm.errors import DataError

MAX_PIXELS = 100_000_000
"""Largest picture (width x height) that is decoded: a bound on memory, and on decompression bombs."""

_FROM_URL_SAFE = bytes.maketrans(b"-_", b"+/")


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
            with closing(_checked(self.path, self.path)) as image:
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


@dataclass(frozen=True, slots=True)
class Base64Image:
    """A picture written in base64, plain or URL-safe, in bytes `start` to `end` of a larger file."""

    path: str
    start: int
    end: int
    name: str = field(compare=False)
    """How messages call it."""

    @property
    def size(self) -> tuple[int, int]:
        return _embedded_header(self)

    def open(self) -> Image.Image:
        try:
            with closing(_checked(_embedded_bytes(self), f"{self.path}: {self.name}")) as image:
                return image.convert("RGB")
        except OSError as error:
            raise DataError(f"{self.path}: {self.name}: cannot be decoded: {error}") from error


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
    with closing(_checked(path, path)) as image:
        return image.size


@lru_cache(maxsize=65536)
def _embedded_header(ref: Base64Image) -> tuple[int, int]:
    with closing(_checked(_embedded_bytes(ref), f"{ref.path}: {ref.name}")) as image:
        return image.size


def _embedded_bytes(ref: Base64Image) -> BytesIO:
    try:
        with open(ref.path, "rb", buffering=0) as file:
            text = os.pread(file.fileno(), ref.end - ref.start, ref.start)
    except OSError as error:
        raise DataError(f"{ref.path}: cannot be read: {error.strerror}") from error
    try:
        return BytesIO(base64.b64decode(text.translate(_FROM_URL_SAFE), validate=True))
    except binascii.Error as error:
        raise DataError(f"{ref.path}: {ref.name}: expected base64, found {text[:40]!r}: {error}") from error


def _checked(source: str | IO[bytes], where: str) -> Image.Image:
    try:
        image = Image.open(source)
    except FileNotFoundError as error:
        raise DataError(f"{where}: no such picture") from error
    except UnidentifiedImageError as error:
        raise DataError(f"{where}: not a readable picture: of no known format") from error
    except (OSError, Image.DecompressionBombError) as error:
        raise DataError(f"{where}: not a readable picture: {error}") from error
    width, height = image.size
    if width * height > MAX_PIXELS:
        image.close()
        raise DataError(f"{where}: {width} x {height} is more than {MAX_PIXELS} pixels")
    return image
