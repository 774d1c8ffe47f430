"""Neighbouring patches become one token: their features side by side, then an MLP.

`square` joins r x r patches, as in InternVL 1.5 (Chen et al. 2024, arXiv 2404.16821); `row` joins r in reading order,
as in MiniGPT-v2 (Chen et al. 2023, arXiv 2310.09478).

Shape suffixes: M images, P patches, D width, H rows and W columns of tokens, R rows and S columns inside a token.
"""

from __future__ import annotations

from typing import Annotated, Literal

from torch import Tensor, nn

from mllm.errors import ConfigError
from mllm.fields import Range
from mllm.models.connectors.mlp import LayerCount, Mlp
from mllm.models.vision.grid import grid_side
from mllm.registry import CONNECTORS


@CONNECTORS.register_module("concat")
class Concat(nn.Module):
    """Neighbouring patches concatenated, then an MLP.

    [M, P, vision_width] -> [M, P / (r * r) or P / r, text_width]; of a square the upper row comes first.

    Raises:
        ConfigError: an unknown `neighbours`, or fewer than one patch a token.
    """

    def __init__(
        self,
        *,
        vision_width: int,
        text_width: int,
        r: Annotated[int, Range(least=1, most=64)] = 2,
        neighbours: Literal["square", "row"] = "square",
        layers: LayerCount = 2,
    ) -> None:
        super().__init__()
        self.r = r
        self.square = self.grid = neighbours == "square"
        self.joined = r * r if self.square else r
        self.mlp = Mlp(vision_width=self.joined * vision_width, text_width=text_width, layers=layers)

    def tokens(self, patches: int) -> int:
        """Tokens of an image, of which the vision tower gives `patches`.

        Raises:
            ConfigError: they cannot be images_first evenly.
        """
        divided = grid_side(patches) if self.square else patches
        if divided % self.r:
            whole = "patches along a side" if self.square else "patches"
            raise ConfigError(
                "change r or image_size",
                field="connector 'concat'",
                expected=f"a multiple of r, {self.r}, as {whole}",
                found=str(divided),
            )
        return patches // self.joined

    def forward(self, features_MPD: Tensor) -> Tensor:
        images, patches, width = features_MPD.shape
        tokens = self.tokens(patches)
        if self.square:
            side = grid_side(tokens)
            features_MHRWSD = features_MPD.view(images, side, self.r, side, self.r, width)
            features_MPD = features_MHRWSD.transpose(2, 3)
        return self.mlp(features_MPD.reshape(images, tokens, self.joined * width))
