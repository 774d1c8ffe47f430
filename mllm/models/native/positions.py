"""Positions and masks of rows that hold several samples.

Shape suffixes: B rows, T tokens; S samples or shared beginnings, L tokens of the longest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from mllm.models.native.tensors import Tensors
from mllm.models.runtime.packed_attention import PackedAttentionMask, reading


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedRows:
    """Rows that hold several samples."""

    ids_BT: Tensor
    labels_BT: Tensor | None
    position_BT: Tensor
    """int64: the number of a token in its own sample."""
    segment_BT: Tensor
    prefix_BT: Tensor
    """int64, as in `PackedAttentionMask`; images are in segments that continue no other."""

    @property
    def spans(self) -> PackedAttentionMask:
        return PackedAttentionMask(self.segment_BT, self.prefix_BT)


def as_the_model_counts(model: Any, rows: PackedRows, images: Tensors) -> dict[str, Any]:
    """The model's own positions where it computes them from where images lie (Qwen-VL and kin), else `as_numbered`."""
    if hasattr(getattr(model, "model", None), "get_rope_index"):
        return in_space(model, rows, images)
    return as_numbered(model, rows, images)


def as_numbered(model: Any, rows: PackedRows, images: Tensors) -> dict[str, Any]:
    """Positions are those in the samples."""
    return {"position_ids": rows.position_BT, **reading(rows.spans)}


def in_space(model: Any, rows: PackedRows, images: Tensors) -> dict[str, Any]:
    """Positions of what begins a sample, with its images, are the model's own; what continues it goes on from there."""
    spans = rows.spans
    heads: list[Tensor] = []
    for ids_T, row in zip(rows.ids_BT, spans.rows, strict=True):
        parts = ids_T[: sum(span.length for span in row)].split([span.length for span in row])
        heads += [ids for ids, span in zip(parts, row, strict=True) if not span.ancestors]
    ids_SL = pad_sequence(heads, batch_first=True)
    mask_SL = pad_sequence([torch.ones_like(ids) for ids in heads], batch_first=True)
    found_3SL, beyond_S1 = model.model.get_rope_index(
        ids_SL,
        mm_token_type_ids=model.image_marks(ids_SL),
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
            if not span.ancestors:
                number_of[place] = next(numbers)
                here.copy_(found_3SL[:, number_of[place], : span.length])
            else:
                here += beyond_S1[number_of[span.ancestors[0]]]
            start += span.length
    return {"position_ids": position_3BT, **reading(spans)}
