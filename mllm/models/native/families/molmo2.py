"""Molmo 2: an image stretched over crops that overlap, and as a whole before them."""

from __future__ import annotations

from typing import Any

from mllm.compat.transformers_placing import canvas_of_crops
from mllm.geometry import Placement, resize
from mllm.models.native.family import Family
from mllm.models.native.placing import Size
from mllm.registry import FAMILIES


@FAMILIES.register_module("molmo2")
def molmo2() -> Family:
    """Points; it writes no boxes. No packed rows: the tokens of an image see one another.

    Source: huggingface.co/allenai/Molmo2-8B.
    """
    return Family(codec="molmo2", place=_place, pack=None, beside=None)


def _place(processor: Any, size: Size) -> Placement:
    height, width = canvas_of_crops(processor, size[1], size[0])
    return resize(size, (width, height))
