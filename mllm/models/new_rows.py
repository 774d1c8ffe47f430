"""Training only the embeddings of new tokens: the other rows of the matrix get no gradient.

The mask acts where the matrix is used, not on its gradient afterwards: so it holds for replicated and sharded training.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from mllm.errors import ConfigError, ModelError
from mllm.fields import show

TrainEmbeddings = Literal["none", "new", "input", "input_and_output"]


class NewRowsHead(nn.Linear):
    """A language model's head of which only the rows of `trained` get a gradient; None: all."""

    trained: Sequence[int] | None = None

    def forward(self, input: Tensor) -> Tensor:
        if self.trained is None:
            return super().forward(input)
        return linear(input, _OnlyRows.apply(self.weight, self.trained), self.bias)


class _OnlyRows(torch.autograd.Function):
    """A matrix as it is, and of its gradient only some rows."""

    @staticmethod
    def forward(ctx: Any, weight_VD: Tensor, rows: Sequence[int]) -> Tensor:
        ctx.rows = rows
        return weight_VD.view_as(weight_VD)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (gradient_VD,) = gradients
        kept_VD = torch.zeros_like(gradient_VD)
        rows = torch.tensor(ctx.rows, dtype=torch.long, device=gradient_VD.device)
        return kept_VD.index_copy(0, rows, gradient_VD[rows]), None


def finalise_embeddings(language_model: Any, choice: TrainEmbeddings, new_token_ids: Sequence[int]) -> None:
    """Make the chosen embeddings of a frozen language model trainable. Masking the input side is left to the caller.

    Raises:
        ConfigError: an unknown choice, or "new" without new tokens.
        ModelError: a tied head of a kind whose rows cannot be told apart.
    """
    if choice not in get_args(TrainEmbeddings):
        expected = ", ".join(map(repr, get_args(TrainEmbeddings)))
        raise ConfigError(field="train_embeddings", expected=f"one of {expected}", found=show(choice))
    if choice == "new" and not new_token_ids:
        raise ConfigError(
            field="train_embeddings", expected="another value for a model without new tokens", found=repr(choice)
        )
    inputs, head = language_model.get_input_embeddings(), language_model.get_output_embeddings()
    if choice != "none":
        inputs.weight.requires_grad_(True)
    if choice == "input_and_output":
        head.requires_grad_(True)
    if choice == "new" and head.weight is inputs.weight:
        if type(head) not in (nn.Linear, NewRowsHead):
            raise ModelError(
                field="train_embeddings 'new'", expected="a Linear as the tied head", found=f"a {type(head).__name__}"
            )
        if not isinstance(head, NewRowsHead):
            head = _with_new_rows(head)
            language_model.set_output_embeddings(head)
        head.trained = list(new_token_ids)
    elif isinstance(head, NewRowsHead):
        head.trained = None


def _with_new_rows(head: nn.Linear) -> NewRowsHead:
    """The same parameters in a head that can tell its rows apart."""
    with torch.device("meta"):
        new = NewRowsHead(head.in_features, head.out_features, bias=head.bias is not None)
    new.weight, new.bias = head.weight, head.bias
    new.train(head.training)
    return new
