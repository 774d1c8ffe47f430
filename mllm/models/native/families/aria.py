"""Aria: an image scaled to a longest edge, at the upper left of a square."""

from __future__ import annotations

from typing import Any

from mllm.geometry import Placement
from mllm.models.native.family import Family
from mllm.models.native.placing import Size, at_the_corner
from mllm.registry import FAMILIES


@FAMILIES.register_module("aria")
def aria() -> Family:
    """Boxes are spoken as Shikra writes them.

    Source: Li et al. 2024 (arXiv 2410.05993).
    """
    return Family(codec="shikra", place=_place)


def _place(processor: Any, size: Size) -> Placement:
    side, least = processor.max_image_size, processor.min_image_size
    scale = side / max(size)
    width, height = (side if edge == max(size) else max(int(edge * scale), least) for edge in size)
    return at_the_corner(size, (width, height), (side, side))
