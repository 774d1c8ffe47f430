"""PaliGemma 1 and 2: an image stretched to a square; image and question see one another, the answer looks back."""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import PreTrainedModel

from mllm.errors import ModelError
from mllm.models.native.family import Family
from mllm.models.native.positions import PackedRows
from mllm.models.native.tensors import Tensors
from mllm.models.runtime.loss import IGNORE_INDEX
from mllm.models.runtime.packed_attention import mask_arguments
from mllm.models.runtime.packed_mask import PackedAttentionMask
from mllm.registry import FAMILIES


@FAMILIES.register_module("paligemma")
def paligemma() -> Family:
    """Source: Beyer et al. 2024 (arXiv 2407.07726)."""
    return Family(
        codec="paligemma",
        template="paligemma",
        beside=None,
        more=_more,
        pack=_pack,
    )


def _more(model: PreTrainedModel, ids_BT: Tensor, labels_BT: Tensor | None, images: Tensors) -> dict[str, Tensor]:
    """0 for what is seen from both sides, 1 from the answer on."""
    if labels_BT is None:
        return {"token_type_ids": torch.zeros_like(ids_BT)}
    return {"token_type_ids": ((labels_BT != IGNORE_INDEX).cumsum(1) > 0).long()}


def _pack(model: PreTrainedModel, rows: PackedRows, images: Tensors) -> dict[str, object]:
    """
    Raises:
        ModelError: samples share a beginning.
    """
    if (rows.prefix_BT >= 0).any():
        raise ModelError(
            "paligemma reads an image together with its question, so questions cannot share it: "
            "set data_args.collator_kwargs.packing to 'rows'"
        )
    labels_BT = torch.full_like(rows.ids_BT, IGNORE_INDEX) if rows.labels_BT is None else rows.labels_BT
    answered_BT = torch.zeros_like(rows.ids_BT, dtype=torch.bool)
    for segment in range(int(rows.segment_BT.max()) + 1):
        own_BT = rows.segment_BT == segment
        answered_BT |= own_BT & ((own_BT & (labels_BT != IGNORE_INDEX)).cumsum(1) > 0)
    # a sample is two segments: its prompt, and its answer, which goes on from there
    segment_BT = torch.where(rows.segment_BT < 0, rows.segment_BT, 2 * rows.segment_BT + answered_BT)
    prefix_BT = torch.where(answered_BT, 2 * rows.segment_BT, rows.prefix_BT)
    spans = PackedAttentionMask(segment_BT, prefix_BT, ~answered_BT & (segment_BT >= 0))
    # its positions count from 1
    return {"position_ids": rows.position_BT + 1, "token_type_ids": None, **mask_arguments(spans)}
