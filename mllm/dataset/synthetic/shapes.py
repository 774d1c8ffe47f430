"""Images of coloured shapes, made from numbers: what `Scenes` asks questions about."""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import lru_cache

from PIL import Image, ImageDraw

from mllm.types import Box

COLOURS = {
    "red": (220, 30, 30),
    "green": (20, 150, 40),
    "blue": (30, 60, 220),
    "yellow": (240, 205, 20),
    "purple": (140, 40, 170),
    "orange": (245, 130, 15),
    "cyan": (20, 190, 200),
    "black": (20, 20, 20),
}
"""Colour word -> RGB; none is as light as a background."""

SIZES = {"small": (0.17, 0.21), "medium": (0.27, 0.32), "large": (0.39, 0.46)}
"""Size word -> range of a shape's side, as a fraction of the image's."""

KINDS = ("circle", "square", "triangle", "diamond", "cross")

SMALLEST_IMAGE = 32
"""Side in pixels below which the kinds of small shapes cannot be told apart."""

MOST_SHAPES = 8
"""What surely finds a place in an image."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """A shape whose left and upper edges are at x, y, and whose width and height are `side` pixels, an odd number."""

    kind: str
    colour: str
    size: str
    x: int
    y: int
    side: int

    @property
    def box(self) -> Box:
        """Of the drawn pixels, right and lower edge excluded."""
        return Box(x1=self.x, y1=self.y, x2=self.x + self.side, y2=self.y + self.side)

    @property
    def centre(self) -> tuple[float, float]:
        return self.x + self.side / 2, self.y + self.side / 2


@dataclass(frozen=True, slots=True)
class SceneImage:
    """The image that follows from these numbers; drawn when it is opened.

    `side` is its width and height in pixels, `shapes` the fewest and the most of them.
    """

    seed: int
    index: int
    side: int
    shapes: tuple[int, int]

    @property
    def size(self) -> tuple[int, int]:
        return self.side, self.side

    def open(self) -> Image.Image:
        background, shapes = scene(self)
        image = Image.new("RGB", self.size, background)
        draw = ImageDraw.Draw(image)
        for shape in shapes:
            _draw(draw, shape)
        return image


@lru_cache(maxsize=1024)
def scene(image: SceneImage) -> tuple[tuple[int, int, int], tuple[Shape, ...]]:
    """The background (RGB) of an image and its shapes.

    Their boxes neither touch nor overlap, and no two shapes share size, colour and kind.
    """
    rng = random.Random(f"scene {image.seed} {image.index}")
    background = (rng.randint(215, 255), rng.randint(215, 255), rng.randint(215, 255))
    count = rng.randint(*image.shapes)
    shapes: list[Shape] = []
    misses = 0
    while len(shapes) < count:
        shape = _drawn(rng, image.side)
        if not any(_collide(shape, other) or _alike(shape, other) for other in shapes):
            shapes.append(shape)
            continue
        misses += 1
        if misses == 200:  # large shapes may have left no room
            misses = 0
            shapes.clear()
    return background, tuple(shapes)


def _drawn(rng: random.Random, image: int) -> Shape:
    size = rng.choice(tuple(SIZES))
    side = round(rng.uniform(*SIZES[size]) * image) | 1
    return Shape(
        kind=rng.choice(KINDS),
        colour=rng.choice(tuple(COLOURS)),
        size=size,
        x=rng.randint(0, image - side),
        y=rng.randint(0, image - side),
        side=side,
    )


def _collide(a: Shape, b: Shape) -> bool:
    """Whether less than one pixel lies between the boxes."""
    return a.x <= b.x + b.side and b.x <= a.x + a.side and a.y <= b.y + b.side and b.y <= a.y + a.side


def _alike(a: Shape, b: Shape) -> bool:
    return (a.size, a.colour, a.kind) == (b.size, b.colour, b.kind)


def _draw(draw: ImageDraw.ImageDraw, shape: Shape) -> None:
    """Fill the pixels of a shape, without antialiasing; it touches all four edges of its box."""
    colour = COLOURS[shape.colour]
    left, top, right, bottom = shape.x, shape.y, shape.x + shape.side - 1, shape.y + shape.side - 1
    middle_x, middle_y = shape.x + shape.side // 2, shape.y + shape.side // 2
    if shape.kind == "circle":
        draw.ellipse((left, top, right, bottom), fill=colour)
    elif shape.kind == "square":
        draw.rectangle((left, top, right, bottom), fill=colour)
    elif shape.kind == "triangle":
        draw.polygon(((middle_x, top), (right, bottom), (left, bottom)), fill=colour)
    elif shape.kind == "diamond":
        draw.polygon(((middle_x, top), (right, middle_y), (middle_x, bottom), (left, middle_y)), fill=colour)
    else:
        arm = shape.side // 3
        draw.rectangle((left + arm, top, right - arm, bottom), fill=colour)
        draw.rectangle((left, top + arm, right, bottom - arm), fill=colour)
