"""Emu 3: an image resized to whole blocks between two numbers of pixels, its aspect nearly kept."""

from __future__ import annotations

import functools
from typing import Any

from torch import Tensor
from transformers import PreTrainedModel

from mllm.compat.transformers_placing import size_by_area
from mllm.geometry import Placement, resize
from mllm.models.native.family import Family
from mllm.models.native.placing import Size
from mllm.registry import FAMILIES


@FAMILIES.register_module("emu3")
def emu3() -> Family:
    """Boxes are spoken as Shikra writes them.

    Source: Wang et al. 2024 (arXiv 2409.18869).
    """
    return Family(codec="shikra", place=_place, opened=True, prepare=_prepare)


def _place(processor: Any, size: Size) -> Placement:
    height, width = size_by_area(processor, size[1], size[0])
    return resize(size, (width, height))


def _prepare(model: PreTrainedModel) -> None:
    """Each image is encoded at its own size: its encoder sees what others are filled up with."""
    own = model.model.get_image_features

    @functools.wraps(own)
    def one_by_one(pixel_values: Tensor, image_sizes: Tensor, **arguments: Any) -> Any:
        found: Any = None
        features: list[Tensor] = []
        for pixels, size in zip(pixel_values, image_sizes, strict=True):
            height, width = size.tolist()
            found = own(pixels[None, :, :height, :width], size[None], **arguments)
            features += found.pooler_output
        found.pooler_output = features
        return found

    model.model.get_image_features = one_by_one
