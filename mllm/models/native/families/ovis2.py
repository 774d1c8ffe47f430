"""Ovis2: an image stretched over a grid of tiles, and as a whole before them."""

from __future__ import annotations

from typing import Any

from mllm.compat.transformers_placing import covering_grid
from mllm.geometry import Placement, resize
from mllm.models.native.family import Family
from mllm.models.native.placing import Size, in_tiles
from mllm.registry import FAMILIES


@FAMILIES.register_module("ovis2")
def ovis2() -> Family:
    """Boxes are spoken as Shikra writes them.

    Source: Lu et al. 2024 (arXiv 2405.20797); github.com/AIDC-AI/Ovis.
    """
    return Family(codec="shikra", place=_place)


def _place(processor: Any, size: Size) -> Placement:
    side = processor.size.height
    if not processor.crop_to_patches or processor.max_patches <= 1:
        return resize(size, (processor.size.width, side))
    if not processor.use_covering_area_grid:
        return in_tiles(processor, size)
    columns, rows = covering_grid(processor, size[1], size[0])
    return resize(size, (columns * processor.size.width, rows * side))
