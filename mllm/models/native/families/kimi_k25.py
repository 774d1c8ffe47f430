"""Kimi K2.5: an image at its own size or shrunk, at the upper left of whole blocks of patches."""

from __future__ import annotations

from typing import Any

from mllm.compat.transformers_placing import size_and_canvas
from mllm.geometry import Placement
from mllm.models.native.family import Family
from mllm.models.native.placing import Size, at_the_corner
from mllm.registry import FAMILIES


@FAMILIES.register_module("kimi_k25")
def kimi_k25() -> Family:
    """Boxes are spoken as Shikra writes them. Source: transformers, models/kimi_k25."""
    return Family(codec="shikra", place=_place)


def _place(processor: Any, size: Size) -> Placement:
    (height, width), (down, across) = size_and_canvas(processor, size[1], size[0])
    return at_the_corner(size, (width, height), (across, down))
