"""Qwen2-VL, Qwen2.5-VL, Qwen3-VL and Qwen3.5: images of any size, resized to whole patches with their aspect kept."""

from __future__ import annotations

from mllm.models.native.family import Family
from mllm.registry import FAMILIES


@FAMILIES.register_module("qwen2_vl")
def qwen2_vl() -> Family:
    """Source: Wang et al. 2024 (arXiv 2409.12191)."""
    return Family(codec="qwen2_vl")


@FAMILIES.register_module("qwen2_5_vl")
def qwen2_5_vl() -> Family:
    """Source: Bai et al. 2025 (arXiv 2502.13923)."""
    return Family(codec="qwen25_vl")


@FAMILIES.register_module(["qwen3_vl", "qwen3_vl_moe", "qwen3_5", "qwen3_5_moe"])
def qwen3_vl() -> Family:
    """Qwen3.5 too, whose layers of linear attention neither pack nor share.

    Source: github.com/QwenLM/Qwen3-VL.
    """
    return Family(codec="qwen3_vl")
