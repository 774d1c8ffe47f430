"""GLM-5: an image at its own size, or scaled into a budget of tokens, at the upper left of whole blocks of patches."""

from __future__ import annotations

from math import floor
from typing import Any

from mllm.compat.transformers_placing import canvas_in_tokens
from mllm.geometry import Placement
from mllm.models.native.family import Family
from mllm.models.native.placing import Size, at_the_corner
from mllm.registry import FAMILIES


@FAMILIES.register_module("glm5_next")
def glm5_next() -> Family:
    """Boxes as GLM-V writes them. Source: transformers, models/glm5_next."""
    return Family(codec="glm", place=_place)


def _place(processor: Any, size: Size) -> Placement:
    down, across = canvas_in_tokens(processor, size[1], size[0])
    scale = min(across / size[0], down / size[1])
    block = (processor.patch_size * processor.merge_size * processor.patch_expand_factor) ** 2
    if size[0] * size[1] >= block * processor.min_image_tokens:
        scale = min(1.0, scale)
    width, height = (max(1, min(most, floor(side * scale))) for side, most in zip(size, (across, down), strict=True))
    return at_the_corner(size, (width, height), (across, down))
