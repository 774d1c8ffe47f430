"""Two linear layers with a GELU between them (LLaVA 1.5)."""

from __future__ import annotations

from torch import Tensor, nn

from mllm.registry import CONNECTORS


@CONNECTORS.register_module("mlp2x_gelu")
class Mlp2xGelu(nn.Module):
    """[M, P, vision_width] -> [M, P, text_width]."""

    def __init__(self, *, vision_width: int, text_width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(vision_width, text_width), nn.GELU(), nn.Linear(text_width, text_width))

    def tokens(self, patches: int) -> int:
        """Tokens of a picture, of which the vision tower gives `patches`."""
        return patches

    def forward(self, features_MPD: Tensor) -> Tensor:
        return self.layers(features_MPD)
