"""A picture -> the square of numbers that a vision tower takes, laid out by a `Placement`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from mllm.geometry import Placement, PlacementKind, pad_to_square, place, resize_short_side


class PixelTransform:
    """Pad, crop or squash to `size` x `size`, then normalise: what CLIP's and LLaVA's preprocessing do to pixels.

    `pad` fills with the mean colour (LLaVA-1.5); `crop` scales the shorter side and cuts the middle (CLIP).
    """

    def __init__(
        self, *, size: int, mean: Sequence[float], std: Sequence[float], placement: PlacementKind = "pad"
    ) -> None:
        self.size = size
        self.kind: PlacementKind = placement
        self.background = tuple(int(value * 255) for value in mean)
        scale = 1.0 / (255.0 * np.asarray(std, dtype=np.float32))
        self._scale = scale[:, None, None]
        self._shift = (np.asarray(mean, dtype=np.float32) / np.asarray(std, dtype=np.float32))[:, None, None]

    def placement(self, size: tuple[int, int]) -> Placement:
        """Where a picture of (width, height) pixels lies on the model's square."""
        return place(self.kind, size, self.size)

    def __call__(self, image: Image.Image) -> Tensor:
        """float32 [3, size, size] of an RGB picture."""
        placed = self.arrange(image)
        array = np.asarray(placed, dtype=np.float32).transpose(2, 0, 1)
        return torch.from_numpy(array * self._scale - self._shift)

    def arrange(self, image: Image.Image) -> Image.Image:
        """The picture as the model sees it, before normalisation."""
        side = (self.size, self.size)
        if self.kind == "pad":
            padding = pad_to_square(image.size)
            if padding.canvas != image.size:
                square = Image.new("RGB", padding.canvas, self.background)
                square.paste(image, (int(padding.offset[0]), int(padding.offset[1])))
                image = square
        elif self.kind == "crop":
            image = image.resize(resize_short_side(image.size, self.size).canvas, Image.Resampling.BICUBIC)
            left, top = (image.width - self.size) // 2, (image.height - self.size) // 2
            return image.crop((left, top, left + self.size, top + self.size))
        return image if image.size == side else image.resize(side, Image.Resampling.BICUBIC)
