"""Pictures written as text inside a larger file, as in MIMIC-IT's JSON."""

from __future__ import annotations

import base64
import binascii
import os
from dataclasses import dataclass, field
from functools import lru_cache
from io import BytesIO

from PIL import Image

from mllm.errors import ImageError
from mllm.images import decoding
from mllm.images.settings import ImageSettings, current_settings

_FROM_URL_SAFE = bytes.maketrans(b"-_", b"+/")


@dataclass(frozen=True, slots=True)
class Base64Image:
    """A picture in base64, plain or URL-safe: bytes `start` to `end` of a local file."""

    path: str
    start: int
    end: int
    name: str = field(compare=False)
    """How messages call it."""

    @property
    def size(self) -> tuple[int, int]:
        return _size(self, current_settings())

    def open(self) -> Image.Image:
        return decoding.decode(self._bytes(), self._where, current_settings())

    @property
    def _where(self) -> str:
        return f"{self.path}: {self.name}"

    def _bytes(self) -> BytesIO:
        try:
            with open(self.path, "rb", buffering=0) as file:
                text = os.pread(file.fileno(), self.end - self.start, self.start)
        except OSError as error:
            raise ImageError(f"{self.path}: cannot be read: {error.strerror}") from error
        try:
            return BytesIO(base64.b64decode(text.translate(_FROM_URL_SAFE), validate=True))
        except binascii.Error as error:
            raise ImageError(f"{self._where}: expected base64, found {text[:40]!r}: {error}") from error


@lru_cache(maxsize=65536)
def _size(ref: Base64Image, current: ImageSettings) -> tuple[int, int]:
    return decoding.size_of(ref._bytes(), ref._where, current)
