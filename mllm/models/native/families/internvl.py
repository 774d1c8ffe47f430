"""InternVL 2.5, 3 and 3.5 in transformers' layout: the image stretched over tiles, and as a whole beside them."""

from __future__ import annotations

from mllm.models.native.family import Family
from mllm.registry import FAMILIES


@FAMILIES.register_module("internvl")
def internvl() -> Family:
    """Source: Chen et al. 2024 (arXiv 2412.05271)."""
    return Family(codec="internvl")
