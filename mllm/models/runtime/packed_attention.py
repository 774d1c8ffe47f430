"""Attention in packed rows, by a `PackedAttentionMask`.

Two ways, under the names by which `attn_implementation` knows them:

- `PACKED`: each segment of a row is one call of PyTorch's own attention, so that no work goes into pairs that do not
  see each other, and no mask of a whole row is ever made. Many small calls: for CPUs.
- `FLEX`: one call of flex attention for all rows, compiled, with a mask of blocks of 128 tokens that is made once for a
  batch. For GPUs; on a CPU it has no gradients, and compiles for many seconds.

Not `torch.nn.attention.varlen`: there a query reads one segment of keys, so that the keys of a prefix would be copied
for each of its branches in each layer, or branches and prefix attended apart and merged by their log-sum-exps, through
which it passes no gradient (torch 2.13). It also knows half precision only.

Shape suffixes: B rows, T tokens, H heads, W width of a head.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel

from mllm.compat.transformers_attention import flex_attention_forward, sdpa_attention_forward, sdpa_mask
from mllm.compat.transformers_models import attention_of, caps_scores_itself
from mllm.errors import ModelError
from mllm.models.language_models import packing_obstacle
from mllm.models.runtime.packed_mask import PackedAttentionMask

PACKED = "mllm_packed"
FLEX = "mllm_flex"
"""Both are PyTorch's attention ("sdpa") where there are no `PackedAttentionMask`, and no soft cap, which that lacks."""


def enable_packed_attention(language_model: PreTrainedModel) -> None:
    """Let the language model attend by the `PackedAttentionMask` it is given, in the way that suits its device.

    Raises:
        ModelError: see `check_packing`; or it was built with an attention that cannot train here.
    """
    check_packing(language_model)
    if getattr(language_model, "attends_by_spans", False):
        return  # in its own way
    used = attention_of(language_model.config)
    on_gpu = language_model.device.type == "cuda"
    if used not in (PACKED, FLEX):
        language_model.set_attn_implementation(FLEX if on_gpu else PACKED)
    elif used == FLEX and not on_gpu and language_model.training:
        raise ModelError(
            f"attn_implementation {FLEX!r} trains on NVIDIA GPUs only; leave it out, or set it to {PACKED!r}"
        )


def check_packing(language_model: PreTrainedModel) -> None:
    """
    Raises:
        ModelError: samples packed into one row would see each other, or it was built with an attention that reads no
            spans.
    """
    if getattr(language_model, "can_be_packed", False) or getattr(language_model, "attends_by_spans", False):
        return
    if obstacle := packing_obstacle(language_model):
        raise ModelError(f"data_args.collator_kwargs.packing: {obstacle}; set it to 'none'")
    used = attention_of(language_model.config)
    if used not in ("sdpa", PACKED, FLEX) and not caps_scores_itself(language_model):
        raise ModelError(
            field="model_args.attn_implementation",
            expected=f"'sdpa' (the default), {PACKED!r} or {FLEX!r} for data_args.collator_kwargs.packing",
            found=repr(used),
        )
    setattr(language_model, "can_be_packed", True)  # noqa: B010, not a declared attribute; looked at once


def mask_arguments(spans: PackedAttentionMask | None) -> dict[str, object]:
    """A language model's arguments for packed rows: any mask of four dimensions is handed on as it is, and not read."""
    if spans is None:
        return {}
    return {"spans": spans, "attention_mask": torch.ones(1, 1, 1, 1, dtype=torch.bool, device=spans.device)}


def check_packing_was_used(spans: PackedAttentionMask | None, language_model: PreTrainedModel) -> None:
    """
    Raises:
        ModelError: no layer has learnt of the packing, so that samples would see one another.
    """
    if spans is not None and not spans.read:
        raise ModelError(f"packing: {language_model.config.model_type} does not pass its arguments on to its attention")


def packed_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    spans: PackedAttentionMask | None = None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    softcap: float | None = None,
    key_bias: Tensor | None = None,
    **arguments: Any,
) -> tuple[Tensor, None]:
    """[B, T, H, W] of query [B, H, T, W], key and value [B, H or fewer, T, W]; an attention of transformers.

    `key_bias`, [B, H, T], is added to the scores of each key in packed rows, which goes with no soft cap.

    Raises:
        ModelError: the language model asks for what this attention cannot do.
    """
    if spans is None:
        return _padded_attention(module, query, key, value, attention_mask, dropout, scaling, softcap, arguments)
    _refuse(module, arguments, spans, attention_mask)
    spans.read = True
    key, value = _for_each_head(query, key), _for_each_head(query, value)
    rows: list[Tensor] = []
    wholes = [query, key, value] if key_bias is None else [query, key, value, key_bias]
    for row, segments in enumerate(spans.rows):
        lengths = [span.length for span in segments]
        padding = query.shape[2] - sum(lengths)
        # split, not sliced: the gradient of a slice is as long as the row
        q, *others = (whole[row : row + 1].split([*lengths, padding], dim=2) for whole in wholes)
        outputs: list[Tensor] = []
        for number, span in enumerate(segments):
            seen = (*span.ancestors, number)
            k, v, *bias = (
                part[number] if not span.ancestors else torch.cat([part[each] for each in seen], dim=2)
                for part in others
            )
            near = not bias and (sliding_window is None or k.shape[2] <= sliding_window)
            together = span.bidirectional and not (spans.only_in_windows and sliding_window is None)
            causal = near and not span.ancestors and not together
            whole = near and together
            mask = None
            if not causal and not whole:
                mask = spans.mask(span.length, k.shape[2], sliding_window, together)
            if mask is not None and bias:
                mask = bias[0][:, :, None].masked_fill(~mask, float("-inf"))
            outputs.append(_attend(q[number], k, v, mask, causal, dropout, scaling, softcap))
        nothing = value.new_zeros(1, query.shape[1], padding, value.shape[3])
        rows.append(torch.cat([*outputs, nothing], dim=2))
    return torch.cat(rows).transpose(1, 2).contiguous(), None


def flex_packed_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    spans: PackedAttentionMask | None = None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    softcap: float | None = None,
    **arguments: Any,
) -> tuple[Tensor, Tensor | None]:
    """As `packed_attention`, by transformers' flex attention, which compiles once for all layers.

    Raises:
        ModelError: the language model asks for what this attention cannot do.
    """
    if spans is None:
        return _padded_attention(module, query, key, value, attention_mask, dropout, scaling, softcap, arguments)
    _refuse(module, arguments, spans, attention_mask)
    if dropout:
        raise ModelError(
            f"or set attn_implementation to {PACKED!r}",
            field="attention_dropout",
            expected=f"0 with attn_implementation {FLEX!r}",
            found=str(dropout),
        )
    spans.read = True
    mask = spans.block_mask(sliding_window)
    return flex_attention_forward(module, query, key, value, mask, scaling=scaling, softcap=softcap)


def _padded_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float,
    scaling: float | None,
    softcap: float | None,
    arguments: dict[str, Any],
) -> tuple[Tensor, None]:
    """Of rows that are not packed. `attention_mask` is that of "sdpa", bool [B, 1, T, T]; None: all that is before."""
    _refuse(module, arguments)
    if softcap is None:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **arguments
        )
    key, value = _for_each_head(query, key), _for_each_head(query, value)
    seen = _attend(query, key, value, attention_mask, attention_mask is None, dropout, scaling, softcap)
    return seen.transpose(1, 2), None


def _attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    causal: bool,
    dropout: float,
    scaling: float | None,
    softcap: float | None,
) -> Tensor:
    """PyTorch's own attention, or where scores are capped, which that cannot, the same by hand."""
    if softcap is None:
        return scaled_dot_product_attention(
            query, key, value, attn_mask=mask, is_causal=causal, dropout_p=dropout, scale=scaling
        )
    scores = softcap * torch.tanh(query @ key.mT * (scaling or query.shape[-1] ** -0.5) / softcap)
    if causal:
        mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril(key.shape[2] - query.shape[2])
    if mask is not None:
        scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    weights = scores.softmax(-1, dtype=torch.float32).to(value.dtype)
    return torch.nn.functional.dropout(weights, dropout) @ value


def _for_each_head(query: Tensor, keys: Tensor) -> Tensor:
    repeats = query.shape[1] // keys.shape[1]
    return keys.repeat_interleave(repeats, dim=1) if repeats > 1 else keys


def _refuse(
    module: torch.nn.Module,
    arguments: dict[str, Any],
    spans: PackedAttentionMask | None = None,
    attention_mask: Tensor | None = None,
) -> None:
    """Raises ModelError where a layer wants more of its attention than there is: sinks, a mask that it made itself."""
    if arguments.get("s_aux") is not None:
        raise ModelError(
            f"packing: {type(module).__name__} needs attention sinks, which PyTorch's attention does not have"
        )
    # a mask of one element is that of `mask_arguments`
    if spans is not None and attention_mask is not None and attention_mask.numel() != 1 and not spans.over_masks:
        raise ModelError(f"packing: {type(module).__name__} makes its own masks, which packed rows would lose")


def positions(attention_mask_BT: Tensor) -> Tensor:
    """int64 [B, T]: the number of each token in its row, padding left out."""
    return (attention_mask_BT.long().cumsum(1) - 1).clamp(min=0)


AttentionInterface.register(PACKED, packed_attention)
AttentionInterface.register(FLEX, flex_packed_attention)
AttentionMaskInterface.register(PACKED, sdpa_mask)
AttentionMaskInterface.register(FLEX, sdpa_mask)
