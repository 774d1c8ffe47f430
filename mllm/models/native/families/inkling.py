"""Inkling 1 and 2: an image at its own size, or scaled by a factor, at the upper left of a grid of square patches."""

from __future__ import annotations

from math import floor
from typing import Any

from mllm.geometry import Placement
from mllm.models.native.family import Family
from mllm.models.native.placing import Size, at_the_corner
from mllm.registry import FAMILIES


@FAMILIES.register_module("inkling_mm_model")
def inkling_mm_model() -> Family:
    """Boxes are spoken as Shikra writes them. Source: transformers, models/inkling."""
    return Family(codec="shikra", place=_place)


@FAMILIES.register_module("inkling2")
def inkling2() -> Family:
    """Boxes are spoken as Shikra writes them. Source: transformers, models/inkling2."""
    return Family(codec="shikra", place=_place_whole)


def _place_whole(processor: Any, size: Size) -> Placement:
    side = processor.size.height
    return Placement(source=size, canvas=(-(-size[0] // side) * side, -(-size[1] // side) * side))


def _place(processor: Any, size: Size) -> Placement:
    """Its grid has a column more than an image fills."""
    side, longest = processor.size.height, max(size)
    wanted = longest * (processor.rescale_image_frac or 1)
    if processor.rescale_image_frac and processor.rescale_image_max_upscaled_long_edge:
        wanted = min(wanted, max(processor.rescale_image_max_upscaled_long_edge, longest))
    width, height = (floor(edge * (wanted / longest) + 0.5) for edge in size)
    return at_the_corner(size, (width, height), ((width // side + 1) * side, -(-height // side) * side))
