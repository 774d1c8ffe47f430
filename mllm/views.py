"""How models take a picture: where it lies (a `Placement`), the text that holds its place, the numbers it becomes.

A model makes its view; the processor, which writes and reads coordinates by it, knows nothing else of the model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from mllm.errors import DataError
from mllm.geometry import Placement, PlacementKind, pad_to_square, place, resize_short_side
from mllm.types import IMAGE


class View(Protocol):
    """What a model says of pictures. Sizes are (width, height) in pixels. Picklable, for data loading workers."""

    @property
    def token(self) -> str:
        """Stands for one feature of a picture, and marks its place in the rendered text; '' where it takes none."""
        ...

    @property
    def fixed(self) -> bool:
        """Whether the text that holds its place is the same for pictures of all sizes."""
        ...

    def placement(self, size: tuple[int, int]) -> Placement:
        """Where a picture of `size` lies on what the model sees."""
        ...

    def slot(self, size: tuple[int, int]) -> str:
        """The text that holds its place: `token` once for each feature, and what the model wants around them."""
        ...

    def __call__(self, image: Image.Image) -> Mapping[str, Tensor]:
        """The model's arguments for an RGB picture; those of several are joined along the first dimension."""
        ...

    def arrange(self, image: Image.Image) -> Image.Image:
        """The picture as the model sees it, before its colours are normalised: what people look at."""
        ...


class SquareView:
    """Pad, crop or squash to `size` x `size`, then normalise: what CLIP's and LLaVA's preprocessing do to pixels.

    `pad` fills with the mean colour (LLaVA-1.5); `crop` scales the shorter side and cuts the middle (CLIP). Every
    picture becomes `tokens` features and float32 `pixels` [1, 3, size, size].
    """

    token = IMAGE
    fixed = True

    def __init__(
        self,
        *,
        size: int,
        mean: Sequence[float],
        std: Sequence[float],
        tokens: int,
        placement: PlacementKind = "pad",
    ) -> None:
        self.size = size
        self.mean = tuple(mean)
        self.std = tuple(std)
        self.tokens = tokens
        self.kind: PlacementKind = placement
        self.background = tuple(int(value * 255) for value in mean)
        scale = 1.0 / (255.0 * np.asarray(std, dtype=np.float32))
        self._scale = scale[:, None, None]
        self._shift = (np.asarray(mean, dtype=np.float32) / np.asarray(std, dtype=np.float32))[:, None, None]

    def placement(self, size: tuple[int, int]) -> Placement:
        return place(self.kind, size, self.size)

    def slot(self, size: tuple[int, int]) -> str:
        return self.token * self.tokens

    def __call__(self, image: Image.Image) -> dict[str, Tensor]:
        placed = self.arrange(image)
        array = np.asarray(placed, dtype=np.float32).transpose(2, 0, 1)
        return {"pixels": torch.from_numpy(array * self._scale - self._shift)[None]}

    def arrange(self, image: Image.Image) -> Image.Image:
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


class FrameView(SquareView):
    """Square pictures, and videos of them: `pixels` [frames, 3, size, size], and in `frames` [1] how many these are."""

    def __call__(self, image: Image.Image) -> dict[str, Tensor]:
        return self.video([image])

    def video(self, frames: Sequence[Image.Image]) -> dict[str, Tensor]:
        pixels = torch.cat([super(FrameView, self).__call__(frame)["pixels"] for frame in frames])
        return {"pixels": pixels, "frames": torch.tensor([len(frames)])}


class NoView:
    """Of a model that reads text alone."""

    token = ""
    fixed = True

    def placement(self, size: tuple[int, int]) -> Placement:
        raise DataError("the model takes no pictures")

    def slot(self, size: tuple[int, int]) -> str:
        raise DataError("the model takes no pictures")

    def __call__(self, image: Image.Image) -> Mapping[str, Tensor]:
        raise DataError("the model takes no pictures")

    def arrange(self, image: Image.Image) -> Image.Image:
        raise DataError("the model takes no pictures")
