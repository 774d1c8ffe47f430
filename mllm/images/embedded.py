"""Images inside a larger local file: as text in MIMIC-IT's JSON, as they are in the tar files of webdataset."""

from __future__ import annotations

import base64
import binascii
import os
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from functools import lru_cache
from io import BytesIO

from PIL import Image

from mllm.errors import ImageError
from mllm.images import decode
from mllm.images.decode import check_kind
from mllm.images.settings import ImageSettings, current_settings

_FROM_URL_SAFE = bytes.maketrans(b"-_", b"+/")


@dataclass(frozen=True, slots=True)
class _Span(ABC):
    """Bytes `start` to `end` of a local file."""

    path: str
    start: int
    end: int
    name: str = field(compare=False)
    """How messages call it."""

    @property
    def size(self) -> tuple[int, int]:
        return _size(self, current_settings())

    def open(self) -> Image.Image:
        return decode.decode(self.read(), self.where, current_settings())

    def open_reduced(self, at_least: tuple[int, int]) -> Image.Image:
        return decode.decode(self.read(), self.where, current_settings(), at_least=at_least)

    @property
    def where(self) -> str:
        return f"{self.path}: {self.name}"

    @abstractmethod
    def read(self) -> BytesIO:
        """The encoded image."""

    def _bytes(self, most: int) -> bytes:
        """What the span holds.

        Raises:
            ImageError: more bytes than `most`, or the file cannot be read.
        """
        if self.end - self.start > most:
            raise ImageError(
                where=self.where,
                expected=f"at most {current_settings().max_mb:g} MB (images.max_mb)",
                found=f"{(self.end - self.start) / 1e6:.3g} MB",
                kind="unreadable-image",
            )
        try:
            check_kind(self.path, self.where)
            with open(self.path, "rb", buffering=0) as file:
                return os.pread(file.fileno(), self.end - self.start, self.start)
        except OSError as error:
            raise ImageError(f"cannot be read: {error.strerror}", where=self.path, kind="unreadable-image") from error


@dataclass(frozen=True, slots=True)
class Base64Image(_Span):
    """An image in base64, plain or URL-safe: bytes `start` to `end` of a local file."""

    def read(self) -> BytesIO:
        text = self._bytes(4 * -(-current_settings().max_bytes // 3))
        try:
            return BytesIO(base64.b64decode(text.translate(_FROM_URL_SAFE), validate=True))
        except binascii.Error as error:
            found = f"{text[:40]!r}: {error}"
            raise ImageError(where=self.where, expected="base64", found=found, kind="unreadable-image") from error


@dataclass(frozen=True, slots=True)
class MemberImage(_Span):
    """An image file that is bytes `start` to `end` of a local file, such as a member of a tar file."""

    def read(self) -> BytesIO:
        return BytesIO(self._bytes(current_settings().max_bytes))


@lru_cache(maxsize=65536)
def _size(ref: _Span, current: ImageSettings) -> tuple[int, int]:
    return decode.size_of(ref.read(), ref.where, current)
