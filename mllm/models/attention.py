"""Attention in packed rows: every sample sees itself and the beginning it may share with others, nothing else.

Each stretch of a row is one call of PyTorch's own attention, so that no work goes into pairs that do not see each
other, and no mask of a whole row is ever made.

Shape suffixes: B rows, T tokens, H heads, W width of a head, S tokens of a segment, K tokens that it sees.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from mllm.errors import ModelError

PACKED = "mllm_packed"
"""PyTorch's attention ("sdpa"), which also reads `Spans`."""


@dataclass(frozen=True, slots=True)
class Span:
    """`length` tokens of a row, which see one another and the tokens of the span number `prefix` of the row."""

    length: int
    prefix: int | None = None


class Spans:
    """The segments of packed rows; handed through the language model to the attention of each layer.

    No dataclass: FSDP makes copies of those that a module is given, and what one layer notes would be lost.
    """

    def __init__(self, rows: list[list[Span]], device: torch.device) -> None:
        self.rows = rows
        self.device = device
        self.read = False
        """Whether an attention has looked: a language model that drops it would mix samples."""
        self.masks: dict[tuple[int, int, int | None], Tensor] = {}

    def mask(self, seeing: int, seen: int, window: int | None) -> Tensor:
        """bool [S, K]: the last `seeing` of `seen` tokens see those up to themselves, at most `window` of them."""
        key = (seeing, seen, window)
        if key not in self.masks:
            distance = torch.arange(seen - seeing, seen, device=self.device)[:, None] - torch.arange(
                seen, device=self.device
            )
            self.masks[key] = (distance >= 0) & (distance < (seen if window is None else window))
        return self.masks[key]


def spans_of(segment_ids_BT: Tensor, prefix_ids_BT: Tensor) -> Spans:
    """
    Args:
        segment_ids_BT: the sample, or the shared beginning, that a token belongs to; -1 padding, at the end of a row.
        prefix_ids_BT: the segment that it sees as well; -1 none.
    """
    rows = [
        list(_row(segments, prefixes))
        for segments, prefixes in zip(segment_ids_BT.tolist(), prefix_ids_BT.tolist(), strict=True)
    ]
    return Spans(rows, segment_ids_BT.device)


def _row(segments: list[int], prefixes: list[int]) -> Iterator[Span]:
    number: dict[int, int] = {}
    start = 0
    while start < len(segments) and segments[start] >= 0:
        stop = start
        while stop < len(segments) and segments[stop] == segments[start]:
            stop += 1
        yield Span(stop - start, number.get(prefixes[start]))
        number[segments[start]] = len(number)
        start = stop


def read_spans(language_model: PreTrainedModel) -> None:
    """Have the language model attend by `Spans` where it is given some.

    Raises:
        ModelError: it was built with another attention than PyTorch's own.
    """
    used = language_model.config._attn_implementation
    if used == "sdpa":
        language_model.set_attn_implementation(PACKED)
    elif used != PACKED:
        raise ModelError(f"packing needs attn_implementation='sdpa', found {used!r}")


def reading(spans: Spans | None) -> dict[str, Any]:
    """A language model's arguments for packed rows: any mask of four dimensions is handed on as it is, and not read."""
    if spans is None:
        return {}
    return {"spans": spans, "attention_mask": torch.ones(1, 1, 1, 1, dtype=torch.bool, device=spans.device)}


def check_read(spans: Spans | None, language_model: PreTrainedModel) -> None:
    """
    Raises:
        ModelError: no layer has learnt of the packing, so that samples would see one another.
    """
    if spans is not None and not spans.read:
        raise ModelError(f"packing: {language_model.config.model_type} does not hand its arguments on to its attention")


def packed_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    spans: Spans | None = None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    **arguments: Any,
) -> tuple[Tensor, None]:
    """[B, T, H, W] of query [B, H, T, W], key and value [B, H or fewer, T, W]; an attention of transformers."""
    if spans is None:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **arguments
        )
    spans.read = True
    repeats = query.shape[1] // key.shape[1]
    if repeats > 1:
        key, value = key.repeat_interleave(repeats, dim=1), value.repeat_interleave(repeats, dim=1)
    rows: list[Tensor] = []
    for row, segments in enumerate(spans.rows):
        lengths = [span.length for span in segments]
        padding = query.shape[2] - sum(lengths)
        # split, not sliced: the gradient of a slice is as long as the row
        q, k, v = (whole[row : row + 1].split([*lengths, padding], dim=2) for whole in (query, key, value))
        outputs: list[Tensor] = []
        for number, span in enumerate(segments):
            seen = span.length if span.prefix is None else span.length + lengths[span.prefix]
            causal = span.prefix is None and (sliding_window is None or seen <= sliding_window)
            outputs.append(
                scaled_dot_product_attention(
                    q[number],
                    k[number] if span.prefix is None else torch.cat([k[span.prefix], k[number]], dim=2),
                    v[number] if span.prefix is None else torch.cat([v[span.prefix], v[number]], dim=2),
                    attn_mask=None if causal else spans.mask(span.length, seen, sliding_window),
                    is_causal=causal,
                    dropout_p=dropout,
                    scale=scaling,
                )
            )
        rows.append(torch.cat([*outputs, torch.zeros_like(q[-1])], dim=2))
    return torch.cat(rows).transpose(1, 2), None


def positions(attention_mask_BT: Tensor) -> Tensor:
    """int64 [B, T]: the number of each token in its row, padding left out."""
    return (attention_mask_BT.long().cumsum(1) - 1).clamp(min=0)


AttentionInterface.register(PACKED, packed_attention)
AttentionMaskInterface.register(PACKED, sdpa_mask)
