"""A quarter of the tokens, by a depthwise convolution of stride 2.

In the manner of MobileVLM's LDP (Chu et al. 2023, arXiv 2312.16886): an MLP at every patch, a residual depthwise 3 x 3
convolution over neighbours, and one of stride 2.

Shape suffixes: M images, P patches, D width, H rows and W columns.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import relu

from mllm.models.connectors.mlp import Mlp
from mllm.models.vision.grid import grid_side
from mllm.registry import CONNECTORS


@CONNECTORS.register_module("ldp")
class Ldp(nn.Module):
    """MobileVLM's lightweight downsample projector: depthwise convolutions, a quarter of the tokens.

    [M, H * H, vision_width] -> [M, h * h, text_width] with h = ceil(H / 2)."""

    grid = True

    def __init__(self, *, vision_width: int, text_width: int) -> None:
        super().__init__()
        self.mlp = Mlp(vision_width=vision_width, text_width=text_width)
        self.mix = _Separable(text_width, stride=1)
        self.down = _Separable(text_width, stride=2)

    def tokens(self, patches: int) -> int:
        """Tokens of an image, of which the vision tower gives `patches`.

        Raises:
            ConfigError: they make no square.
        """
        return ((grid_side(patches) + 1) // 2) ** 2

    def forward(self, features_MPD: Tensor) -> Tensor:
        side = grid_side(features_MPD.shape[1])
        grid_MHWD = self.mlp(features_MPD).unflatten(1, (side, side))
        grid_MHWD = grid_MHWD + self.mix(grid_MHWD)
        return self.down(grid_MHWD).flatten(1, 2)


class _Separable(nn.Module):
    """Each channel over its 3 x 3 neighbours, then all channels at each place."""

    def __init__(self, width: int, *, stride: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(width, width, kernel_size=3, stride=stride, padding=1, groups=width, bias=False)
        self.inner_norm = nn.LayerNorm(width)
        self.pointwise = nn.Linear(width, width, bias=False)
        self.norm = nn.LayerNorm(width)

    def forward(self, grid_MHWD: Tensor) -> Tensor:
        near_MHWD = self.depthwise(grid_MHWD.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return self.norm(self.pointwise(relu(self.inner_norm(near_MHWD))))
