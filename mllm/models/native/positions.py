"""Positions and masks of rows that hold several samples.

Shape suffixes: B rows, T tokens; S samples or shared beginnings, L tokens of the longest.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel

from mllm.errors import ModelError
from mllm.models.native.tensors import Tensors
from mllm.models.runtime.packed_attention import mask_arguments
from mllm.models.runtime.packed_mask import PackedAttentionMask

TOKEN_TYPES = "mm_token_type_ids"
"""1 for the tokens of images, as forward passes of transformers call it."""


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


def as_the_model_counts(model: Any, rows: PackedRows, images: Tensors) -> dict[str, object]:
    """The model's own positions where it computes them from where images lie (Qwen-VL and kin), else `as_numbered`."""
    if _counter(model) is None:
        return as_numbered(model, rows, images)
    return in_space(model, rows, images)


def as_numbered(model: PreTrainedModel, rows: PackedRows, images: Tensors) -> dict[str, object]:
    """Positions are those in the samples."""
    return {"position_ids": rows.position_BT, **mask_arguments(rows.spans)}


def in_space(model: Any, rows: PackedRows, images: Tensors) -> dict[str, object]:
    """Positions of what begins a sample, with its images, are the model's own, on 3 axes or more; what continues it
    goes on from there.
    """
    spans = rows.spans
    heads: list[Tensor] = []
    for ids_T, row in zip(rows.ids_BT, spans.rows, strict=True):
        parts = ids_T[: sum(span.length for span in row)].split([span.length for span in row])
        heads += [ids for ids, span in zip(parts, row, strict=True) if not span.ancestors]
    ids_SL = pad_sequence(heads, batch_first=True)
    mask_SL = pad_sequence([torch.ones_like(ids) for ids in heads], batch_first=True)
    count = _counter(model)
    assert count is not None, "asked before"
    marks = {TOKEN_TYPES: model.image_marks(ids_SL)} if TOKEN_TYPES in inspect.signature(count).parameters else {}
    found_3SL, beyond_S1 = count(ids_SL, image_grid_thw=images.get("image_grid_thw"), attention_mask=mask_SL, **marks)
    numbers = iter(range(len(heads)))
    position_3BT = rows.position_BT.expand(len(found_3SL), -1, -1).clone()
    for position_3T, row in zip(position_3BT.unbind(1), spans.rows, strict=True):
        number_of: dict[int, int] = {}
        start = 0
        for place, span in enumerate(row):
            here = position_3T[:, start : start + span.length]
            if not span.ancestors:
                number_of[place] = next(numbers)
                here.copy_(found_3SL[:, number_of[place], : span.length])
            else:
                here += beyond_S1[number_of[span.ancestors[0]]].long()  # Qwen3-Omni counts in fractions
            start += span.length
    return {"position_ids": position_3BT, **mask_arguments(spans)}


def _counter(model: PreTrainedModel) -> Callable[..., tuple[Tensor, Tensor]] | None:
    """What computes positions from where images lie, which Qwen-Omni's thinkers have outside their text model."""
    holders: list[Any] = [model, getattr(model, "model", None)]
    return next((one.get_rope_index for one in holders if hasattr(one, "get_rope_index")), None)


def with_images_apart(rows: PackedRows, marks_BT: Tensor, *, only_in_windows: bool = False) -> PackedAttentionMask:
    """Each image a segment whose tokens see one another; it continues the text before it, as that behind does it.

    Args:
        marks_BT: 1 for tokens of images.
        only_in_windows: as `PackedAttentionMask`.
    """
    image_BT = marks_BT.bool() & (rows.segment_BT >= 0)
    pieces = pieces_of(rows.segment_BT, rows.prefix_BT, image_BT)
    return PackedAttentionMask(*pieces, image_BT, only_in_windows=only_in_windows)


def check_images_fit(field: str, tokens: int, window: int) -> None:
    """
    Raises:
        ModelError: an image may have more tokens, as `field` says, than a layer with a window sees: it would be cut.
    """
    if tokens > window:
        raise ModelError(
            "packing: an image may be longer than the window of its attention",
            field=field,
            expected=f"at most sliding_window, {window}",
            found=str(tokens),
        )


def pieces_of(segment_BT: Tensor, prefix_BT: Tensor, image_BT: Tensor) -> tuple[Tensor, Tensor]:
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
