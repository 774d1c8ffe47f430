"""One linear layer (LLaVA 1.0)."""

from __future__ import annotations

from torch import Tensor, nn

from mllm.registry import CONNECTORS


@CONNECTORS.register_module("linear")
class Linear(nn.Module):
    """One linear layer.

    [M, P, vision_width] -> [M, P, text_width]."""

    grid = True

    def __init__(self, *, vision_width: int, text_width: int) -> None:
        super().__init__()
        self.layer = nn.Linear(vision_width, text_width)

    def tokens(self, patches: int) -> int:
        """Tokens of an image, of which the vision tower gives `patches`."""
        return patches

    def forward(self, features_MPD: Tensor) -> Tensor:
        return self.layer(features_MPD)
