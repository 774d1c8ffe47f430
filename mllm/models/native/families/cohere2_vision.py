"""Command A Vision: an image stretched over the tiles that enlarge it least, and as a whole behind them."""

from __future__ import annotations

from typing import Any

from mllm.compat.transformers_placing import optimal_grid
from mllm.geometry import Placement, resize
from mllm.models.native.family import Family
from mllm.models.native.placing import Size
from mllm.registry import FAMILIES


@FAMILIES.register_module("cohere2_vision")
def cohere2_vision() -> Family:
    """Boxes are spoken as Shikra writes them. Source: transformers, models/cohere2_vision."""
    return Family(codec="shikra", place=_place)


def _place(processor: Any, size: Size) -> Placement:
    tile = (processor.size.width, processor.size.height)
    if not processor.crop_to_patches:
        return resize(size, tile)
    columns, rows = optimal_grid(processor, size[1], size[0])
    return resize(size, (columns * tile[0], rows * tile[1]))
