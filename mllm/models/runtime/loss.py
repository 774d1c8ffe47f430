"""The language modelling loss, with the head run only where there is a label, on so many positions at a time.

Shape suffixes: B rows, T tokens, D width, N labelled tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, pad
from transformers import PreTrainedModel
from transformers.integrations.deepspeed import is_deepspeed_zero3_enabled
from transformers.utils import ModelOutput

from mllm.models.runtime.head import total_over_logits
from mllm.models.runtime.packed_attention import PackedAttentionMask, check_packing_was_used, reading

IGNORE = -100
LOGITS_AT_ONCE = 2**25
"""More of them are made in pieces, and made again for the gradients. 128 MiB in float32; the loss holds some copies."""


@dataclass
class LanguageOutput(ModelOutput):
    """What the models here give: where there are labels the loss, else the logits."""

    loss: Tensor | None = None
    logits: Tensor | None = None
    """[B, T, V]; beside a loss only where asked for."""
    token_losses: Tensor | None = None
    """float32 [N], cross entropy of each labelled token in row-major order; without gradient."""


def next_token_loss(
    language_model: PreTrainedModel,
    text_BTD: Tensor,
    labels_BT: Tensor,
    *,
    attention_mask: Tensor | None = None,
    position_ids: Tensor | None = None,
    spans: PackedAttentionMask | None = None,
    num_items_in_batch: Tensor | int | None = None,
    return_logits: bool = False,
) -> LanguageOutput:
    """Cross entropy of the labels given all tokens before them, and where asked for the logits; see `labelled_loss`."""

    def run() -> Any:
        return language_model(
            inputs_embeds=text_BTD,
            use_cache=False,
            **given(attention_mask=attention_mask, position_ids=position_ids),
            **reading(spans),
        )

    found = labelled_loss(
        language_model, run, labels_BT, num_items_in_batch=num_items_in_batch, return_logits=return_logits
    )
    check_packing_was_used(spans, language_model)
    return found


def labelled_loss(
    language_model: Any,
    run: Callable[[], Any],
    labels_BT: Tensor,
    *,
    num_items_in_batch: Tensor | int | None,
    return_logits: bool,
) -> LanguageOutput:
    """Cross entropy of the next tokens; see `mean_cross_entropy`.

    Args:
        language_model: holds the head.
        run: a forward pass of it, or of a model around it, that gives `logits`.
        labels_BT: -100 where unsupervised; not shifted.
        num_items_in_batch: labelled tokens of the whole step.
        return_logits: give all logits [B, T, V] beside the loss.
    """
    next_BT = pad(labels_BT[:, 1:], (0, 1), value=IGNORE)
    if not return_logits:
        return mean_cross_entropy(language_model, run, next_BT, num_items_in_batch)
    logits_BTV = run().logits
    labelled_BT = next_BT != IGNORE
    losses_N = _cross_entropy(logits_BTV[labelled_BT], next_BT[labelled_BT])
    loss = _mean(losses_N.sum(), next_BT, num_items_in_batch)
    return LanguageOutput(loss=loss, logits=logits_BTV, token_losses=losses_N.detach())


def mean_cross_entropy(
    language_model: Any, run: Callable[[], Any], target_BT: Tensor, num_items_in_batch: Tensor | int | None
) -> LanguageOutput:
    """Cross entropy summed and divided by `num_items_in_batch`, or else by the number of labelled tokens; 0 for none.

    Args:
        language_model: holds the head.
        run: a forward pass of it, or of a model around it; its logits are not made.
        target_BT: the token that each position should give, -100 for any.
    """
    labelled_BT = target_BT != IGNORE
    target_N = target_BT[labelled_BT]
    losses_N = torch.empty(len(target_N), device=target_N.device)

    def total(logits_nV: Tensor, some: slice) -> Tensor:
        losses_n = _cross_entropy(logits_nV, target_N[some])
        losses_N[some] = losses_n.detach()
        return losses_n.sum()

    # under ZeRO-3 the weights of the head are there during its own call only
    at_once = max(LOGITS_AT_ONCE // language_model.config.get_text_config().vocab_size, 1)
    found = total_over_logits(
        language_model, run, labelled_BT, total, at_once=None if is_deepspeed_zero3_enabled() else at_once
    )
    return LanguageOutput(loss=_mean(found, target_BT, num_items_in_batch), token_losses=losses_N)


def _cross_entropy(logits_NV: Tensor, target_N: Tensor) -> Tensor:
    return cross_entropy(logits_NV.float(), target_N.to(logits_NV.device), reduction="none")


def _mean(total: Tensor, target_BT: Tensor, num_items_in_batch: Tensor | int | None) -> Tensor:
    if num_items_in_batch is None:
        return total / (target_BT != IGNORE).sum().clamp(min=1).to(total.device)
    if isinstance(num_items_in_batch, Tensor):
        return total / num_items_in_batch.to(total.device)
    return total / num_items_in_batch


def given(**arguments: Tensor | None) -> dict[str, Tensor]:
    """The arguments that are not None: not every language model takes `position_ids`."""
    return {name: value for name, value in arguments.items() if value is not None}
