"""Linear layers with a GELU between them: two in LLaVA 1.5 (Liu et al. 2023, arXiv 2310.03744)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from torch import Tensor, nn

from mllm.fields import Range
from mllm.registry import CONNECTORS

LayerCount = Annotated[int, Range(least=1, most=99)]


@CONNECTORS.register_module("mlp")
class Mlp(nn.Module):
    """Linear layers with GELU between them.

    [M, P, vision_width] -> [M, P, text_width]."""

    grid = True

    def __init__(self, *, vision_width: int, text_width: int, layers: LayerCount = 2) -> None:
        super().__init__()
        modules: list[nn.Module] = [nn.Linear(vision_width, text_width)]
        for _ in range(layers - 1):
            modules += [nn.GELU(), nn.Linear(text_width, text_width)]
        self.layers = nn.Sequential(*modules)

    def tokens(self, patches: int) -> int:
        """Tokens of an image, of which the vision tower gives `patches`."""
        return patches

    def forward(self, features_MPD: Tensor) -> Tensor:
        return self.layers(features_MPD)


@CONNECTORS.register_family(r"mlp([1-9]\d?)x_gelu", example="mlp2x_gelu")
def named_mlp(layers: str) -> Callable[..., Mlp]:
    """LLaVA's names: `mlp2x_gelu` has two layers, `mlp3x_gelu` three."""

    def mlp(*, vision_width: int, text_width: int) -> Mlp:
        return Mlp(vision_width=vision_width, text_width=text_width, layers=int(layers))

    return mlp
