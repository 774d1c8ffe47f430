"""The language modelling loss, with the head run only where there is a label.

Shape suffixes: B rows, T tokens, D width, N labelled tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor
from torch.nn.functional import cross_entropy, pad
from transformers import PreTrainedModel

from mllm.models.attention import Spans, check_read, reading

IGNORE = -100


def next_token_loss(
    language_model: PreTrainedModel,
    text_BTD: Tensor,
    labels_BT: Tensor,
    *,
    attention_mask: Tensor | None = None,
    position_ids: Tensor | None = None,
    spans: Spans | None = None,
    num_items_in_batch: Tensor | int | None = None,
    return_logits: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """Cross entropy of the labels given all tokens before them, and where asked for the logits [B, T, V].

    See `labelled_loss`. The language model's own forward makes the logits, so that whatever it does after its head is
    done (a soft cap in Gemma 2, a scale in Cohere and Granite).
    """

    def logits(keep: Tensor | int) -> Tensor:
        return language_model(
            inputs_embeds=text_BTD,
            logits_to_keep=keep,
            use_cache=False,
            **given(attention_mask=attention_mask, position_ids=position_ids),
            **reading(spans),
        ).logits

    found = labelled_loss(logits, labels_BT, num_items_in_batch=num_items_in_batch, return_logits=return_logits)
    check_read(spans, language_model)
    return found


def labelled_loss(
    logits_at: Callable[[Tensor | int], Tensor],
    labels_BT: Tensor,
    *,
    num_items_in_batch: Tensor | int | None,
    return_logits: bool,
) -> tuple[Tensor, Tensor | None]:
    """Cross entropy summed and divided by `num_items_in_batch`, or else by the number of labelled tokens; 0 for none.

    Args:
        logits_at: logits [N, V] of the True positions of a bool [B, T], or [B, T, V] where it cannot or for 0.
        labels_BT: -100 where unsupervised; not shifted.
        num_items_in_batch: labelled tokens of the whole step.
        return_logits: give all logits beside the loss.
    """
    next_BT = pad(labels_BT[:, 1:], (0, 1), value=IGNORE)
    labelled_BT = next_BT != IGNORE
    logits = logits_at(0 if return_logits else labelled_BT)
    # three dimensions: all logits, by return_logits or from a language model that knows no `logits_to_keep`
    logits_NV = logits[labelled_BT] if logits.dim() == 3 else logits
    total = cross_entropy(logits_NV.float(), next_BT[labelled_BT].to(logits.device), reduction="sum")
    if num_items_in_batch is None:
        loss = total / max(len(logits_NV), 1)
    elif isinstance(num_items_in_batch, Tensor):
        loss = total / num_items_in_batch.to(total.device)
    else:
        loss = total / num_items_in_batch
    return loss, logits if return_logits else None


def given(**arguments: Tensor | None) -> dict[str, Tensor]:
    """The arguments that are not None: not every language model takes `position_ids`."""
    return {name: value for name, value in arguments.items() if value is not None}
