"""References to images that are made of others when they are opened: mirrored, or laid on a canvas."""

from __future__ import annotations

from dataclasses import dataclass

from PIL import Image

from mllm.images import ImageRef


@dataclass(frozen=True, slots=True)
class FlippedImage:
    """An image mirrored from left to right."""

    ref: ImageRef

    @property
    def size(self) -> tuple[int, int]:
        return self.ref.size

    def open(self) -> Image.Image:
        return self.ref.open().transpose(Image.Transpose.FLIP_LEFT_RIGHT)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacedImage:
    """An image scaled to `extent`, with its upper left corner at `offset` on a canvas of one colour.

    Pixels throughout; what lies outside the canvas is cut off.
    """

    ref: ImageRef
    extent: tuple[int, int]
    canvas: tuple[int, int]
    offset: tuple[int, int]
    colour: tuple[int, int, int]

    @property
    def size(self) -> tuple[int, int]:
        return self.canvas

    def open(self) -> Image.Image:
        image = self.ref.open()
        if image.size != self.extent:
            image = image.resize(self.extent, Image.Resampling.BICUBIC)
        placed = Image.new("RGB", self.canvas, self.colour)
        placed.paste(image, self.offset)
        return placed
