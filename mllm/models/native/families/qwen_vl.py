"""Qwen2-VL, Qwen2.5-VL and Qwen3-VL: images of any size, resized to whole patches with their aspect kept."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from mllm.compat.transformers_files import size_in_patches
from mllm.geometry import Placement, resize
from mllm.models.native.family import Family, PackedRows, Size, Tensors
from mllm.models.runtime.packed_attention import reading
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
    return Family(
        codec=codec,
        token=PAD,
        place=_place,
        placeholder_tokens=_placeholder_tokens,
        more=_more,
        beside=("model.rope_deltas",),  # how much farther than its tokens an image reaches in positions
        pack=_pack,
    )


def _place(processor: Any, size: Size) -> Placement:
    width, height = size
    new_height, new_width = size_in_patches(
        height,
        width,
        factor=processor.patch_size * processor.merge_size,
        least=processor.size.shortest_edge,
        most=processor.size.longest_edge,
    )
    return resize(size, (new_width, new_height))


def _placeholder_tokens(config: Any, processor: Any, size: Size) -> str:
    width, height = _place(processor, size).canvas
    side = processor.patch_size * processor.merge_size
    return PAD * ((width // side) * (height // side))


def _more(model: Any, ids_BT: Tensor, labels_BT: Tensor | None, images: Tensors) -> dict[str, Tensor]:
    # positions in three dimensions follow from where the images are
    return {"mm_token_type_ids": _types(model, ids_BT)}


def _types(model: Any, ids_BT: Tensor) -> Tensor:
    return (ids_BT == model.config.image_token_id).int()


def _pack(model: Any, rows: PackedRows, images: Tensors) -> dict[str, Any]:
    """Positions of each sample, or of each shared beginning, are the model's own; what follows one goes on from it."""
    spans = rows.spans
    heads: list[Tensor] = []
    for ids_T, row in zip(rows.ids_BT, spans.rows, strict=True):
        parts = ids_T[: sum(span.length for span in row)].split([span.length for span in row])
        heads += [ids for ids, span in zip(parts, row, strict=True) if span.prefix is None]
    ids_SL = pad_sequence(heads, batch_first=True)
    mask_SL = pad_sequence([torch.ones_like(ids) for ids in heads], batch_first=True)
    found_3SL, beyond_S1 = model.model.get_rope_index(
        ids_SL,
        mm_token_type_ids=_types(model, ids_SL),
        image_grid_thw=images.get("image_grid_thw"),
        attention_mask=mask_SL,
    )
    numbers = iter(range(len(heads)))
    position_3BT = rows.position_BT.expand(3, -1, -1).clone()
    for position_3T, row in zip(position_3BT.unbind(1), spans.rows, strict=True):
        number_of: dict[int, int] = {}
        start = 0
        for place, span in enumerate(row):
            here = position_3T[:, start : start + span.length]
            if span.prefix is None:
                number_of[place] = next(numbers)
                here.copy_(found_3SL[:, number_of[place], : span.length])
            else:
                here += beyond_S1[number_of[span.prefix]]
            start += span.length
    return {"position_ids": position_3BT, **reading(spans)}
