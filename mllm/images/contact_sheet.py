"""Several images of an item as one picture, for people."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil, sqrt

from PIL import Image, ImageDraw, ImageFont

from mllm.images import ImageRef

GAP = 8
"""Pixels between two images."""
PAPER, INK = (255, 255, 255), (0, 0, 0)


@dataclass(frozen=True, slots=True)
class ContactSheet:
    """Images in rows of a near square, each in its own size below its name.

    Attributes:
        refs: the images.
        numbers: the number of each in its item, from 0.
        names: what stands above each; by default `image N`, counted from 1 as models do.
    """

    refs: tuple[ImageRef, ...]
    numbers: tuple[int, ...]
    names: tuple[str, ...] = ()

    @property
    def places(self) -> Mapping[int, tuple[int, int]]:
        """Where each image lies: its upper left corner in pixels, by number."""
        (width, height), strip = self._cell, self._strip
        columns = self._columns
        return {
            number: (place % columns * (width + GAP), place // columns * (height + strip + GAP) + strip)
            for place, number in enumerate(self.numbers)
        }

    @property
    def captions(self) -> tuple[str, ...]:
        """What stands above each image."""
        return self.names or tuple(f"image {number + 1}" for number in self.numbers)

    @property
    def size(self) -> tuple[int, int]:
        (width, height), columns = self._cell, self._columns
        rows = ceil(len(self.refs) / columns)
        return columns * (width + GAP) - GAP, rows * (height + self._strip + GAP) - GAP

    def open(self) -> Image.Image:
        sheet = Image.new("RGB", self.size, PAPER)
        pen, strip = ImageDraw.Draw(sheet), self._strip
        font = ImageFont.load_default(size=strip * 3 / 4)
        for ref, name, (x, y) in zip(self.refs, self.captions, self.places.values(), strict=True):
            sheet.paste(ref.open(), (x, y))
            pen.text((x + 2, y - strip // 2), name, fill=INK, font=font, anchor="lm")
        return sheet

    @property
    def _columns(self) -> int:
        return ceil(sqrt(len(self.refs)))

    @property
    def _cell(self) -> tuple[int, int]:
        sizes = [ref.size for ref in self.refs]
        return max(width for width, _ in sizes), max(height for _, height in sizes)

    @property
    def _strip(self) -> int:
        """The height of a name."""
        return max(12, self._cell[1] // 12)
