"""LLaVA 1.5, 1.6 (NeXT) and their kin in transformers' layout."""

from __future__ import annotations

from mllm.models.native.family import Family
from mllm.registry import FAMILIES


@FAMILIES.register_module(["llava", "llava_next", "llava_next_video", "vipllava"])
def llava() -> Family:
    """Fractions of the image as the model sees it, with two decimals.

    Source: Liu et al. 2023 (arXiv 2310.03744), 2024 (llava-vl.github.io/blog/2024-01-30-llava-next).
    """
    return Family(codec="llava15")


@FAMILIES.register_module("llava_onevision")
def llava_onevision() -> Family:
    """Boxes as in its grounding data, which are LLaVA's.

    Source: Li et al. 2024 (arXiv 2408.03326).
    """
    return Family(codec="llava15")
