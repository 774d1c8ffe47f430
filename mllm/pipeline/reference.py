"""The policy as training began, from which it is not to go far."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class Reference:
    """A copy of the trained weights alone, which changes places with them while the reference is asked.

    Of fresh adapters it is the model with its adapters off. Sharded weights are kept as their shards.
    """

    def __init__(self, model: nn.Module) -> None:
        self._copies = [weight.clone() for weight in _trained(model)]

    @contextmanager
    def in_place(self, model: PreTrainedModel) -> Generator[None, None, None]:
        """The model within is the reference."""
        self._exchange(model)
        try:
            yield
        finally:
            self._exchange(model)

    @torch.no_grad()
    def _exchange(self, model: nn.Module) -> None:
        _forget_gathered(model)
        for weight, copy in zip(_trained(model), self._copies, strict=True):
            now = weight.clone()
            weight.copy_(copy)
            copy.copy_(now)


def _trained(model: nn.Module) -> list[Tensor]:
    weights = [parameter.detach() for parameter in model.parameters() if parameter.requires_grad]
    return [weight.to_local() if isinstance(weight, DTensor) else weight for weight in weights]


def _forget_gathered(model: nn.Module) -> None:
    """FSDP keeps the weights of its outermost unit gathered after a forward pass without gradients."""
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()
