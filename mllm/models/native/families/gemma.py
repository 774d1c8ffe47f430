"""Gemma 3, 3n and 4: an image stretched to a square; Gemma 4's has whole patches, its aspect nearly kept."""

from __future__ import annotations

from typing import Any

from mllm.compat.transformers_placing import size_in_budget
from mllm.geometry import Placement, resize
from mllm.models.native.family import Family
from mllm.models.native.placing import Size
from mllm.registry import FAMILIES


@FAMILIES.register_module(["gemma3", "gemma3n"])
def gemma3() -> Family:
    """Boxes as Gemini writes them; Google says of Gemma 3 only that it likely follows that form. No packed rows: the
    tokens of an image see one another.

    Source: Gemma Team 2025 (arXiv 2503.19786); huggingface.co/google/gemma-3-4b-it, discussion 38.
    """
    return Family(codec="gemini", pack=None, beside=None)


@FAMILIES.register_module("gemma4")
def gemma4() -> Family:
    """Source: ai.google.dev/gemma/docs, Gemma 4 model card."""
    return Family(codec="gemini", place=_place, pack=None, beside=None)


def _place(processor: Any, size: Size) -> Placement:
    height, width = size_in_budget(processor, size[1], size[0])
    return resize(size, (width, height))
