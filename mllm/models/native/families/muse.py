"""Muse Glimmer and Spark: an image resized to whole blocks of patches, up to a number of tokens."""

from __future__ import annotations

from typing import Any

from mllm.compat.transformers_placing import size_in_tokens
from mllm.geometry import Placement, resize
from mllm.models.native.family import Family
from mllm.models.native.placing import Size
from mllm.registry import FAMILIES


@FAMILIES.register_module(["muse_glimmer", "muse_spark"])
def muse() -> Family:
    """Boxes are spoken as Shikra writes them. Source: transformers, models/muse_glimmer."""
    return Family(codec="shikra", place=_place)


def _place(processor: Any, size: Size) -> Placement:
    height, width = size_in_tokens(processor, size[1], size[0])
    return resize(size, (width, height))
