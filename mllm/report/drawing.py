"""Boxes and points drawn on an image."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw

from mllm.types import Box, Point

COLOURS = ("#e6194b", "#3cb44b", "#4363d8", "#f58231", "#911eb4", "#008080", "#f032e6", "#9a6324")


def colour_of(number: int) -> str:
    """The colour of a region, or of a group of regions, as `#rrggbb`."""
    return COLOURS[number % len(COLOURS)]


def draw_regions(
    image: Image.Image, regions: Sequence[Box | Point], numbers: Sequence[int] | None = None
) -> Image.Image:
    """A copy of the image with every region in its own colour; lines are as thick as its size asks for.

    `numbers`: of which number each region has the colour, see `colour_of`; regions of a group have the same.
    """
    drawn = image.convert("RGB")
    pen = ImageDraw.Draw(drawn)
    width = max(1, round(max(drawn.size) / 200))
    for number, region in zip(range(len(regions)) if numbers is None else numbers, regions, strict=True):
        colour = colour_of(number)
        if isinstance(region, Box):
            pen.rectangle(region.xyxy, outline=colour, width=width)
        else:
            pen.circle(region.xy, 2 * width, outline=colour, width=width)
    return drawn
