"""Gemma 3 and 3n: an image stretched to a square. In Gemma 3 its tokens see one another; text looks back."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mllm.errors import ModelError
from mllm.models.native.family import Family
from mllm.models.native.positions import PackedRows
from mllm.models.native.tensors import Tensors
from mllm.models.runtime.packed_attention import PackedAttentionMask, reading
from mllm.registry import FAMILIES


@FAMILIES.register_module("gemma3")
def gemma3() -> Family:
    """Boxes as Gemini writes them; Google says of Gemma 3 only that it likely follows that form.

    Source: Gemma Team 2025 (arXiv 2503.19786); huggingface.co/google/gemma-3-4b-it, discussion 38.
    """
    return Family(codec="gemini", pack=_pack)


@FAMILIES.register_module("gemma3n")
def gemma3n() -> Family:
    """Boxes as Gemma 3. Source: ai.google.dev/gemma/docs, Gemma 3n model card."""
    return Family(codec="gemini")


def _pack(model: Any, rows: PackedRows, images: Tensors) -> dict[str, Any]:
    """Each image is a segment of its own, which continues the text before it and is continued by that behind.

    Raises:
        ModelError: an image has more tokens than a layer with a window sees, which would cut it apart.
    """
    tokens, window = model.config.mm_tokens_per_image, model.text_model.config.sliding_window
    if tokens > window:
        raise ModelError(
            "packing: an image is longer than the window of its attention",
            field="mm_tokens_per_image",
            expected=f"at most sliding_window, {window}",
            found=str(tokens),
        )
    image_BT = model.image_marks(rows.ids_BT).bool() & (rows.segment_BT >= 0)
    spans = PackedAttentionMask(*_pieces(rows.segment_BT, rows.prefix_BT, image_BT), image_BT)
    return {"position_ids": rows.position_BT, "token_type_ids": None, **reading(spans)}


def _pieces(segment_BT: Tensor, prefix_BT: Tensor, image_BT: Tensor) -> tuple[Tensor, Tensor]:
    """Segments cut where an image begins or ends, and the piece that each continues; both int64 [B, T]."""
    changes = (segment_BT.diff(dim=1) != 0) | (image_BT[:, 1:] != image_BT[:, :-1])
    piece_BT = torch.nn.functional.pad(changes.long().cumsum(1), (1, 0))
    segments = int(segment_BT.max()) + 1
    column_BT = segment_BT.where(segment_BT >= 0, segments)  # padding behind all others
    none_BS = piece_BT.new_zeros(len(piece_BT), segments + 1)
    first_BS, last_BS = (
        none_BS.scatter_reduce(1, column_BT, piece_BT, how, include_self=False) for how in ("amin", "amax")
    )
    before_BT = last_BS.gather(1, prefix_BT.clamp(min=0)).where(prefix_BT >= 0, -1)
    parent_BT = before_BT.where(piece_BT == first_BS.gather(1, column_BT), piece_BT - 1)
    return piece_BT.where(segment_BT >= 0, -1), parent_BT.where(segment_BT >= 0, -1)
