"""Nemotron Omni: an image resized to whole blocks of patches, between two numbers of them."""

from __future__ import annotations

from typing import Any

from mllm.compat.transformers_placing import grid_in_budget
from mllm.geometry import Placement, resize
from mllm.models.native.family import Family
from mllm.models.native.placing import Size
from mllm.registry import FAMILIES


@FAMILIES.register_module("nemotron_h_omni")
def nemotron_h_omni() -> Family:
    """Boxes are spoken as Shikra writes them. Source: transformers, models/nemotron_h_omni."""
    return Family(codec="shikra", place=_place)


def _place(processor: Any, size: Size) -> Placement:
    rows, columns = grid_in_budget(processor, size[1], size[0])
    return resize(size, (columns * processor.patch_size, rows * processor.patch_size))
