"""HQQ: linear layers in few bits. transformers 5 does not quantise by it while loading."""

from __future__ import annotations

import importlib

import torch
from torch import nn

from mllm.compat.names import member

LINEAR = "HQQLinear"
"""Class of its layers, by which they are known without importing it."""


class Quantizer:
    """Makes linear layers of `bits`, a scale for each group.

    Raises:
        ValueError: settings that do not go together.
    """

    def __init__(self, *, bits: int, group_size: int, axis: int) -> None:
        self._library = importlib.import_module("hqq.core.quantize")
        try:
            self._settings = member(self._library, "BaseQuantizeConfig")(nbits=bits, group_size=group_size, axis=axis)
        except AssertionError as error:
            raise ValueError(str(error)) from error

    def __call__(self, layer: nn.Linear, device: str | torch.device) -> nn.Module:
        kind = member(self._library, LINEAR)
        return kind(layer, self._settings, compute_dtype=layer.weight.dtype, device=device)
