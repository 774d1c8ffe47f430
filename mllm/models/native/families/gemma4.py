"""Gemma 4: an image resized to whole patches within a budget of tokens, its aspect nearly kept."""

from __future__ import annotations

from typing import Any

from mllm.compat.transformers_placing import size_in_budget
from mllm.geometry import Placement, resize
from mllm.models.native.family import Family
from mllm.models.native.placing import Size
from mllm.registry import FAMILIES


@FAMILIES.register_module("gemma4")
def gemma4() -> Family:
    """Boxes as Gemini writes them. No packed rows: the tokens of an image see one another.

    Source: ai.google.dev/gemma/docs, Gemma 4 model card.
    """
    return Family(codec="gemini", place=_place, pack=None, beside=None)


def _place(processor: Any, size: Size) -> Placement:
    height, width = size_in_budget(processor, size[1], size[0])
    return resize(size, (width, height))
