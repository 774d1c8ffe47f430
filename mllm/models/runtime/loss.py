"""The language modelling loss, with the head run only where there is a label, on so many positions at a time.

Where it is asked for, the log-probabilities of the labels come in its place: learning from rewards weighs these.

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

from mllm.models.runtime.head import values_of_logits

IGNORE_INDEX = -100
LOGITS_AT_ONCE = 2**25
"""More of them are made in pieces, and made again for the gradients. 128 MiB in float32; the loss holds some copies."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scoring:
    """Asks a model for the log-probabilities of its labels in place of their cross entropy.

    Attributes:
        temperature: what the logits are divided by first.
        entropy_gradient: whether entropies carry a gradient.
    """

    temperature: float = 1.0
    entropy_gradient: bool = False


@dataclass
class LanguageOutput(ModelOutput):
    """What the models here give: where there are labels the loss or what a `Scoring` asks for, else the logits."""

    loss: Tensor | None = None
    logits: Tensor | None = None
    """[B, T, V]; beside a loss only where asked for."""
    token_losses: Tensor | None = None
    """float32 [N], cross entropy of each labelled token in row-major order; without gradient."""
    log_probs: Tensor | None = None
    """float32 [N], log-probability of each labelled token in row-major order, with gradient."""
    entropies: Tensor | None = None
    """float32 [N], of the distributions that they are of."""


def labelled_loss(
    language_model: PreTrainedModel,
    run: Callable[[], object],
    labels_BT: Tensor,
    *,
    num_items_in_batch: Tensor | int | None,
    return_logits: bool,
    scoring: Scoring | None = None,
) -> LanguageOutput:
    """Cross entropy of the next tokens, or their log-probabilities, see `scores`.

    It is summed and divided by `num_items_in_batch`, or else by the number of labelled tokens; 0 for none.

    Args:
        language_model: holds the head.
        run: a forward pass of it, or of a model around it, that gives `logits`.
        labels_BT: -100 where unsupervised; not shifted.
        num_items_in_batch: labelled tokens of the whole step.
        return_logits: give all logits [B, T, V] beside the loss.
        scoring: asks for log-probabilities in place of the loss.
    """
    next_BT = pad(labels_BT[:, 1:], (0, 1), value=IGNORE_INDEX)
    return loss_of_targets(
        language_model,
        run,
        next_BT,
        num_items_in_batch=num_items_in_batch,
        return_logits=return_logits,
        scoring=scoring,
    )


def loss_of_targets(
    language_model: Any,
    run: Callable[[], Any],
    target_BT: Tensor,
    *,
    num_items_in_batch: Tensor | int | None,
    return_logits: bool = False,
    scoring: Scoring | None = None,
) -> LanguageOutput:
    """As `labelled_loss`; `target_BT`: the token that each position should give, -100 for any."""
    if scoring is not None:
        return scores(language_model, run, target_BT, scoring)
    logits_BTV: Any = run().logits if return_logits else None
    labelled_BT = target_BT != IGNORE_INDEX
    if logits_BTV is None:  # none are made but those of the labels
        losses_N = _of_targets(language_model, run, target_BT, _cross_entropy)
    else:
        losses_N = _cross_entropy(logits_BTV[labelled_BT], target_BT[labelled_BT])
    count = labelled_BT.sum().clamp(min=1) if num_items_in_batch is None else num_items_in_batch
    loss = losses_N.sum() / (count.to(losses_N.device) if isinstance(count, Tensor) else count)
    return LanguageOutput(loss=loss, logits=logits_BTV, token_losses=losses_N.detach())


def scores(
    language_model: PreTrainedModel, run: Callable[[], object], target_BT: Tensor, scoring: Scoring
) -> LanguageOutput:
    """Log-probabilities of the targets, and entropies; arguments as of `loss_of_targets`."""

    def both(logits_nV: Tensor, target_n: Tensor) -> Tensor:
        logits_nV = logits_nV.float()
        if scoring.temperature != 1:
            logits_nV = logits_nV / scoring.temperature
        log_prob_n = -_cross_entropy(logits_nV, target_n)
        with torch.set_grad_enabled(torch.is_grad_enabled() and scoring.entropy_gradient):
            all_nV = logits_nV.log_softmax(-1)
            entropy_n = -torch.einsum("nv,nv->n", all_nV.exp(), all_nV)
        return torch.stack([log_prob_n, entropy_n], dim=-1)

    found_N2 = _of_targets(language_model, run, target_BT, both)
    return LanguageOutput(log_probs=found_N2[:, 0], entropies=found_N2[:, 1])


def _of_targets(
    language_model: PreTrainedModel,
    run: Callable[[], object],
    target_BT: Tensor,
    values: Callable[[Tensor, Tensor], Tensor],
) -> Tensor:
    """`values` of (logits [n, V], targets [n]) at all positions that have a target, [N, ...]."""
    labelled_BT = target_BT != IGNORE_INDEX
    target_N = target_BT[labelled_BT]
    # under ZeRO-3 the weights of the head are there during its own call only
    at_once = max(LOGITS_AT_ONCE // language_model.config.get_text_config().vocab_size, 1)
    return values_of_logits(
        language_model,
        run,
        labelled_BT,
        lambda logits_nV, some: values(logits_nV, target_N[some]),
        at_once=None if is_deepspeed_zero3_enabled() else at_once,
    )


def _cross_entropy(logits_NV: Tensor, target_N: Tensor) -> Tensor:
    return cross_entropy(logits_NV.float(), target_N.to(logits_NV.device), reduction="none")
