"""Florence-2: an image stretched to a square; an encoder reads it with the prompt, a decoder answers in bins."""

from __future__ import annotations

from mllm.models.native.family import Family
from mllm.registry import FAMILIES


@FAMILIES.register_module("florence2")
def florence2() -> Family:
    """Source: Xiao et al. 2023 (arXiv 2311.06242)."""
    return Family(codec="florence2", template="florence2", pack=None, beside=None)
