"""Features of an image's tiles, joined to one sequence.

Shape suffixes: N tiles of all images, P features of a tile, G features along its side, R rows and C columns of tiles,
H and W rows and columns of features, F features of images, D width of the language model.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isqrt

import torch
from torch import Tensor, nn

from mllm.conversation.preprocessing.tiling import TileLayout
from mllm.errors import ModelError


class TileMerger(nn.Module):
    """Tiles of images, [N, P, D], one image after another -> their features [F, D], one image after another.

    `newline` [width] ends the rows of images whose layout asks for it; it starts as in LLaVA-NeXT, normal with a
    deviation of 1 / sqrt(width), but from a fixed seed: a folder without one gives the same model each time.

    Raises:
        ModelError: the layouts speak of another number of tiles.
    """

    def __init__(self, width: int, *, newline: bool) -> None:
        super().__init__()
        self.newline: nn.Parameter | None = None
        if newline:
            generator = torch.Generator().manual_seed(0)
            self.newline = nn.Parameter(torch.randn(width, generator=generator, device="cpu") / width**0.5)

    def forward(self, tiles_NPD: Tensor, layouts: Sequence[TileLayout]) -> Tensor:
        counts = [layout.tiles for layout in layouts]
        if sum(counts) != len(tiles_NPD):
            raise ModelError(expected=f"{sum(counts)} tiles of pixels, as image_sizes need", found=str(len(tiles_NPD)))
        # one tensor: of several, ZeRO-3 would count one backward pass each, and ranks with more images would differ
        return torch.cat([self._join(*pair) for pair in zip(tiles_NPD.split(counts), layouts, strict=True)])

    def _join(self, tiles_NPD: Tensor, layout: TileLayout) -> Tensor:
        if layout.window is None:
            return tiles_NPD.flatten(0, 1)
        whole_FD, tiles_NPD = tiles_NPD[: layout.whole].flatten(0, 1), tiles_NPD[layout.whole :]
        side = isqrt(tiles_NPD.shape[1])
        grid_RCGGD = tiles_NPD.unflatten(1, (side, side)).unflatten(0, (layout.rows, layout.columns))
        grid_HWD = grid_RCGGD.transpose(1, 2).flatten(0, 1).flatten(1, 2)
        top, bottom, left, right = layout.window
        rows_HWD = grid_HWD[top:bottom, left:right]
        if layout.newline:
            assert self.newline is not None, "the layouts are those of the tiling that this was made for"
            ends_HWD = self.newline.to(rows_HWD).expand(len(rows_HWD), 1, -1)
            rows_HWD = torch.cat([rows_HWD, ends_HWD], dim=1)
        return torch.cat([whole_FD, rows_HWD.flatten(0, 1)])
