"""How models take an image: where it lies (a `Placement`), the text that holds its place, the numbers it becomes.

A model makes its view; the processor, which writes and reads coordinates by it, knows nothing else of the model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from PIL import Image

from mllm.errors import DataError
from mllm.geometry import Placement, PlacementKind, place, resize_short_side
from mllm.types import IMAGE

if TYPE_CHECKING:  # where images lie is known without PyTorch, whose import takes seconds
    from torch import Tensor


class ImagePreprocessor(Protocol):
    """What a model says of images. Sizes are (width, height) in pixels. Picklable, for data loading workers."""

    @property
    def token(self) -> str:
        """Marks the place of an image in the rendered text; '' where it takes none."""
        ...

    @property
    def feature(self) -> str:
        """Stands for one feature of an image; mostly `token` too."""
        ...

    @property
    def around(self) -> tuple[str, str]:
        """Plain text that the model wants before and behind an image; it is read together with the words there."""
        ...

    @property
    def fixed(self) -> bool:
        """Whether the text that holds its place is the same for images of all sizes."""
        ...

    def placement(self, size: tuple[int, int]) -> Placement:
        """Where an image of `size` lies on what the model sees.

        Raises:
            ImageError: the model takes no image of this size; `placeholder_tokens`, `preview`, the call raise it too.
        """
        ...

    def placeholder_tokens(self, size: tuple[int, int]) -> str:
        """The text that holds its place: `feature` once for each feature, and special tokens around them."""
        ...

    def __call__(self, image: Image.Image) -> Mapping[str, Tensor]:
        """The model's arguments for an RGB image; those of several are joined along the first dimension."""
        ...

    def preview(self, image: Image.Image) -> Image.Image:
        """The image as the model sees it, before its colours are normalised: what people look at."""
        ...


class SquarePreprocessor:
    """Pad, crop or squash to `size` x `size`, then normalise: what CLIP's and LLaVA's preprocessing do to pixels.

    `pad` fills with the mean colour (LLaVA-1.5); `crop` scales the shorter side and cuts the middle (CLIP). Every
    image becomes `tokens` features and float32 `pixels` [1, 3, size, size].
    """

    token = feature = IMAGE
    around = ("", "")
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

    def placeholder_tokens(self, size: tuple[int, int]) -> str:
        return self.token * self.tokens

    def __call__(self, image: Image.Image) -> dict[str, Tensor]:
        placed = self.preview(image)
        return {"pixels": self._normalised(np.asarray(placed).transpose(2, 0, 1))}

    def fast(self, image: Image.Image, size: tuple[int, int]) -> dict[str, Tensor]:
        """As `__call__`, of an image of `size`, by torch's kernel: pixels differ by 2/255 at most.

        Where the image was decoded at a half, a quarter or an eighth of its size, pixels differ by what its finest
        details were; it lies where `placement` says.
        """
        if image.size != size:
            return {"pixels": self._normalised(np.asarray(self._from_reduced(image, size)).transpose(2, 0, 1))}
        (width, height), (left, top) = (self.size, self.size), (0, 0)
        if self.kind == "crop":
            (width, height), (left, top) = self._cut(size)
        elif self.kind == "pad":
            image = self._on_bars(image, (max(size), max(size)))
        # torch scales across, then down; Pillow 13 the other way round where the height loses twice what the width does
        if image.height - height > max(0, 2 * (image.width - width)):
            return SquarePreprocessor.__call__(self, image)
        import torch
        from torch.nn.functional import interpolate

        image_1CHW = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None]
        image_1CHW = interpolate(image_1CHW, size=(height, width), mode="bicubic", antialias=True)
        seen_CHW = image_1CHW[0, :, top : top + self.size, left : left + self.size]
        return {"pixels": self._normalised(seen_CHW.numpy())}

    def resized_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """What an image of `size` is scaled to: a smaller one would be enlarged."""
        across, down = self.placement(size).scale
        return max(1, round(size[0] * across)), max(1, round(size[1] * down))

    def preview(self, image: Image.Image) -> Image.Image:
        self.placement(image.size)  # refuses what would need too large a canvas
        if self.kind == "crop":
            canvas, (left, top) = self._cut(image.size)
            image = image.resize(canvas, Image.Resampling.BICUBIC)
            return image.crop((left, top, left + self.size, top + self.size))
        side = max(image.size)
        if self.kind == "pad" and image.height < side:
            # Pillow scales squares across, then down: bars that come between the two make the same pixels
            image = image.resize((self.size, image.height), Image.Resampling.BICUBIC)
            image = self._on_bars(image, (self.size, side))
        elif self.kind == "pad" and image.width < side:
            image = self._on_bars(image, (side, side))
        return image.resize((self.size, self.size), Image.Resampling.BICUBIC)

    def _cut(self, size: tuple[int, int]) -> tuple[tuple[int, int], tuple[int, int]]:
        """`crop`: the size that an image is scaled to, and the upper left corner of what is kept of it."""
        width, height = resize_short_side(size, self.size).canvas
        return (width, height), ((width - self.size) // 2, (height - self.size) // 2)

    def _on_bars(self, image: Image.Image, canvas: tuple[int, int]) -> Image.Image:
        """In the middle of a canvas of the mean colour."""
        square = Image.new("RGB", canvas, self.background)
        square.paste(image, ((canvas[0] - image.width) // 2, (canvas[1] - image.height) // 2))
        return square

    def _from_reduced(self, image: Image.Image, size: tuple[int, int]) -> Image.Image:
        """The square that the model sees of an image of `size`, which was decoded at a part of it, rounded up."""
        part = round(max(size) / max(image.size))
        placement = self.placement(size)
        corners = (*placement.inverse(0, 0), *placement.inverse(*placement.canvas))
        left, top, right, bottom = (round(value / part, 3) for value in corners)
        # Pillow looks through no window that reaches over an image's border
        before = (ceil(max(0, -left)), ceil(max(0, -top)))
        room = (max(image.width, ceil(right)) + before[0], max(image.height, ceil(bottom)) + before[1])
        if room != image.size:
            canvas = Image.new("RGB", room, self.background)
            canvas.paste(image, before)
            image = canvas
        window = (left + before[0], top + before[1], right + before[0], bottom + before[1])
        return image.resize((self.size, self.size), Image.Resampling.BICUBIC, box=window)

    def _normalised(self, image_CHW: Any) -> Tensor:
        """[1, 3, size, size] of colours 0 to 255."""
        import torch

        numbers = np.empty((1, *image_CHW.shape), dtype=np.float32)
        np.multiply(image_CHW, self._scale, out=numbers[0])
        numbers -= self._shift
        return torch.from_numpy(numbers)


class VideoPreprocessor(SquarePreprocessor):
    """Square images, and videos of them: `pixels` [frames, 3, size, size], and in `frames` [1] how many these are."""

    def __call__(self, image: Image.Image) -> dict[str, Tensor]:
        return self.video([super().__call__(image)])

    def fast(self, image: Image.Image, size: tuple[int, int]) -> dict[str, Tensor]:
        return self.video([super().fast(image, size)])

    def video(self, frames: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """One of frames that were seen alone."""
        import torch

        pixels = torch.cat([frame["pixels"] for frame in frames])
        return {"pixels": pixels, "frames": torch.tensor([len(frames)])}


class NoView:
    """Of a model that reads text alone."""

    token = feature = ""
    around = ("", "")
    fixed = True

    def placement(self, size: tuple[int, int]) -> Placement:
        raise DataError("the model takes no images")

    def placeholder_tokens(self, size: tuple[int, int]) -> str:
        raise DataError("the model takes no images")

    def __call__(self, image: Image.Image) -> Mapping[str, Tensor]:
        raise DataError("the model takes no images")

    def preview(self, image: Image.Image) -> Image.Image:
        raise DataError("the model takes no images")
