"""Boxes and points between the original image, the image as a model sees it, and the unit square."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil
from typing import Annotated, Literal

from mllm.errors import ImageError
from mllm.fields import Range
from mllm.types import Box, Point

PATCHES = 28
"""Qwen2.5-VL's images have sides that are multiples of it: two patches of 14 pixels."""
MIN_PIXELS, MAX_PIXELS = 56 * 56, 12845056
"""Bounds of an image's area under `aspect`: those of Qwen2.5-VL's released preprocessor configs."""

ImageSide = Annotated[int, Range(least=1, most=16_384)]
"""Pixels of a side of the images that a model is given."""
PlacementKind = Literal["pad", "crop", "squash"]
LARGEST_CANVAS = 400_000_000
"""Pixels of the largest canvas: a bound on memory, which long thin images would exceed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """How an image of `source` pixels is placed on a `canvas`: x -> x * scale + offset on each axis; invertible.

    Sizes are (width, height) in pixels. It depends on sizes only; no pixel is read. A negative scale mirrors.
    """

    source: tuple[int, int]
    canvas: tuple[int, int]
    scale: tuple[float, float] = (1.0, 1.0)
    offset: tuple[float, float] = (0.0, 0.0)

    def forward(self, x: float, y: float) -> tuple[float, float]:
        """A point of the original image -> pixels of the canvas."""
        return x * self.scale[0] + self.offset[0], y * self.scale[1] + self.offset[1]

    def inverse(self, x: float, y: float) -> tuple[float, float]:
        """A point of the canvas -> pixels of the original image."""
        return (x - self.offset[0]) / self.scale[0], (y - self.offset[1]) / self.scale[1]

    def move_box(self, box: Box) -> Box:
        """A box of the original image -> pixels of the canvas; when mirrored, its right edge becomes the left one."""
        (x1, y1), (x2, y2) = self.forward(box.x1, box.y1), self.forward(box.x2, box.y2)
        return replace(box, x1=min(x1, x2), y1=min(y1, y2), x2=max(x1, x2), y2=max(y1, y2))

    def move_point(self, point: Point) -> Point:
        """A point of the original image -> pixels of the canvas."""
        x, y = self.forward(point.x, point.y)
        return replace(point, x=x, y=y)

    def to_unit(self, x: float, y: float) -> tuple[float, float]:
        """Original pixels -> the canvas as a unit square; outside [0, 1] if the canvas cuts the image there."""
        x, y = self.forward(x, y)
        return x / self.canvas[0], y / self.canvas[1]

    def from_unit(self, u: float, v: float) -> tuple[float, float]:
        """Fractions of the canvas -> original pixels."""
        return self.inverse(u * self.canvas[0], v * self.canvas[1])

    def then(self, after: Placement) -> Placement:
        """This placement, followed by a placement of its canvas.

        Raises:
            ValueError: `after` does not start from this canvas.
        """
        if after.source != self.canvas:
            raise ValueError(f"canvas {self.canvas} is followed by a placement of {after.source}")
        (sx, sy), (ox, oy) = self.scale, self.offset
        (tx, ty), (px, py) = after.scale, after.offset
        return Placement(
            source=self.source,
            canvas=after.canvas,
            scale=(sx * tx, sy * ty),
            offset=(ox * tx + px, oy * ty + py),
        )


def pad_to_square(size: tuple[int, int]) -> Placement:
    """Centre the image in a square of its longer side, with floor(difference / 2) before it (Shikra, LLaVA-1.5)."""
    width, height = size
    side = max(size)
    return Placement(source=size, canvas=(side, side), offset=(float((side - width) // 2), float((side - height) // 2)))


def resize(size: tuple[int, int], canvas: tuple[int, int]) -> Placement:
    """Stretch the image to the canvas; the aspect changes unless the caller kept it."""
    return Placement(source=size, canvas=canvas, scale=(canvas[0] / size[0], canvas[1] / size[1]))


def resize_short_side(size: tuple[int, int], side: int) -> Placement:
    """Scale the shorter side to `side`; the longer follows, rounded down (CLIP's preprocessing)."""
    width, height = size
    if width <= height:
        return resize(size, (side, int(side * height / width)))
    return resize(size, (int(side * width / height), side))


def centre_crop(size: tuple[int, int], canvas: tuple[int, int]) -> Placement:
    """Keep the middle; what lies outside falls off the canvas (CLIP's preprocessing)."""
    return Placement(
        source=size,
        canvas=canvas,
        offset=(float(-((size[0] - canvas[0]) // 2)), float(-((size[1] - canvas[1]) // 2))),
    )


def fit(size: tuple[int, int], canvas: tuple[int, int]) -> Placement:
    """Scale the image to one dimension of the canvas, the other follows, rounded up; centre it (LLaVA-NeXT)."""
    across, down = canvas[0] / size[0], canvas[1] / size[1]
    if across < down:
        extent = (canvas[0], min(ceil(size[1] * across), canvas[1]))
    else:
        extent = (min(ceil(size[0] * down), canvas[0]), canvas[1])
    scaled = resize(size, extent)
    offset = (float((canvas[0] - extent[0]) // 2), float((canvas[1] - extent[1]) // 2))
    return scaled.then(Placement(source=extent, canvas=canvas, offset=offset))


def place(kind: PlacementKind, size: tuple[int, int], side: int) -> Placement:
    """The placement of an image on a model's square input.

    `pad`: pad to a square, then resize. `crop`: short side to `side`, then centre crop. `squash` stretches.

    Raises:
        ImageError: the image is too long and thin for one of the first two, see `check_canvas`.
    """
    if kind == "pad":
        padded = pad_to_square(size)
        check_canvas(size, padded.canvas)
        return padded.then(resize(padded.canvas, (side, side)))
    if kind == "crop":
        resized = resize_short_side(size, side)
        check_canvas(size, resized.canvas)
        return resized.then(centre_crop(resized.canvas, (side, side)))
    return resize(size, (side, side))


def check_canvas(size: tuple[int, int], canvas: tuple[int, int]) -> None:
    """
    Raises:
        ImageError: an image of `size` would be laid on a canvas of more than `LARGEST_CANVAS`.
    """
    if canvas[0] * canvas[1] > LARGEST_CANVAS:
        raise ImageError(
            "the image is too long and thin",
            expected=f"a canvas of at most {LARGEST_CANVAS:,} pixels",
            found=f"{canvas[0]:,} x {canvas[1]:,} for {size[0]} x {size[1]} pixels",
            kind="refused-image",
        )


def flip(size: tuple[int, int]) -> Placement:
    """Mirror the image from left to right."""
    return Placement(source=size, canvas=size, scale=(-1.0, 1.0), offset=(float(size[0]), 0.0))


def iou(a: Box, b: Box) -> float:
    """Intersection over union of two pixel boxes, in [0, 1]; 0 when they only touch, or when both have no area.

    Raises:
        ValueError: the boxes lie on different images.
    Source: Everingham et al. 2010 (PASCAL VOC), with continuous coordinates as in pycocotools (no +1).
    """
    if a.image != b.image:
        raise ValueError(f"boxes lie on images {a.image} and {b.image}")
    width = min(a.x2, b.x2) - max(a.x1, b.x1)
    height = min(a.y2, b.y2) - max(a.y1, b.y1)
    if width <= 0 or height <= 0:
        return 0.0
    overlap = width * height
    union = (a.x2 - a.x1) * (a.y2 - a.y1) + (b.x2 - b.x1) * (b.y2 - b.y1) - overlap
    return overlap / union if union > 0 else 0.0  # areas below the smallest float
