"""Qwen2-VL, Qwen2.5-VL and Qwen3-VL: pictures of any size, resized to whole patches with their aspect kept."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize

from mllm.errors import DataError
from mllm.geometry import Placement, resize
from mllm.models.family import Family, Size, Tensors
from mllm.registry import FAMILIES

PAD = "<|image_pad|>"


@FAMILIES.register_module("qwen2_vl")
def qwen2_vl() -> Family:
    """Source: Wang et al. 2024 (arXiv 2409.12191)."""
    return _family("qwen2_vl")


@FAMILIES.register_module("qwen2_5_vl")
def qwen2_5_vl() -> Family:
    """Source: Bai et al. 2025 (arXiv 2502.13923)."""
    return _family("qwen25_vl")


@FAMILIES.register_module(["qwen3_vl", "qwen3_vl_moe"])
def qwen3_vl() -> Family:
    """Source: github.com/QwenLM/Qwen3-VL."""
    return _family("qwen3_vl")


def _family(codec: str) -> Family:
    return Family(codec=codec, token=PAD, place=_place, slot=_slot, more=_more, branch=_branch)


def _place(processor: Any, size: Size) -> Placement:
    width, height = size
    try:
        new_height, new_width = smart_resize(
            height,
            width,
            factor=processor.patch_size * processor.merge_size,
            min_pixels=processor.size.shortest_edge,
            max_pixels=processor.size.longest_edge,
        )
    except ValueError as error:
        raise DataError(f"a picture of {width} x {height} pixels: {error}") from error
    return resize(size, (new_width, new_height))


def _slot(config: Any, processor: Any, size: Size) -> str:
    width, height = _place(processor, size).canvas
    side = processor.patch_size * processor.merge_size
    return PAD * ((width // side) * (height // side))


def _more(model: Any, ids_BT: Tensor, labels_BT: Tensor | None, pictures: Tensors) -> dict[str, Tensor]:
    # positions in three dimensions follow from where the pictures are
    return {"mm_token_type_ids": (ids_BT == model.config.image_token_id).int()}


def _branch(model: Any, index_B: Tensor) -> None:
    # how much farther than its tokens a picture reaches in positions
    model.model.rope_deltas = model.model.rope_deltas[index_B]
