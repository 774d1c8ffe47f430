"""Perception LM: an image stretched over a canvas of tiles, and as a whole before them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from mllm.compat.transformers_placing import grid_of_canvas
from mllm.geometry import Placement, resize
from mllm.models.native.family import Family
from mllm.models.native.placing import Size
from mllm.models.native.tensors import Tensors
from mllm.registry import FAMILIES


@FAMILIES.register_module("perception_lm")
def perception_lm() -> Family:
    """Boxes are spoken as Shikra writes them.

    Source: Cho et al. 2025 (arXiv 2504.13180).
    """
    return Family(codec="shikra", place=_place, join=_join)


def _place(processor: Any, size: Size) -> Placement:
    columns, rows = grid_of_canvas(processor, size[1], size[0])
    return resize(size, (columns * processor.tile_size, rows * processor.tile_size))


def _join(images: Sequence[Tensors]) -> dict[str, Tensor]:
    """All tiles of a batch as those of one image: its class wants as many of each, and puts them in a row."""
    return {name: torch.cat([image[name] for image in images], dim=1) for name in images[0]}
