"""Painted images are found where each image processor puts them, and faults of a placement are told."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from transformers import (
    CLIPImageProcessorPil,
    DeepseekOcr2ImageProcessorPil,
    DeepseekVLImageProcessorPil,
    GotOcr2ImageProcessorPil,
    Idefics2ImageProcessorPil,
    LlavaImageProcessorPil,
    LlavaNextImageProcessorPil,
    PixtralImageProcessorPil,
    Qwen2VLImageProcessorPil,
    SiglipImageProcessorPil,
)

from mllm.geometry import Placement, fit, resize
from mllm.models.native.painted import SIZES, check_placements
from mllm.models.native.placing import Size, columns_and_rows, placed

SQUARE = {"height": 112, "width": 112}
PINPOINTS = [[112, 224], [224, 112], [224, 224]]
PROCESSORS: dict[str, Any] = {
    "resized and cropped": CLIPImageProcessorPil(size={"shortest_edge": 112}, crop_size=SQUARE),
    "stretched": SiglipImageProcessorPil(size=SQUARE),
    "padded, then resized": LlavaImageProcessorPil(size=SQUARE, do_center_crop=False, do_pad=True),
    "resized, then padded": DeepseekVLImageProcessorPil(size=SQUARE),
    "tiles of the best canvas": LlavaNextImageProcessorPil(
        size={"shortest_edge": 112}, crop_size=SQUARE, image_grid_pinpoints=PINPOINTS
    ),
    "tiles of the nearest aspect": GotOcr2ImageProcessorPil(size=SQUARE, max_patches=6, crop_to_patches=True),
    "tiles, and a padded square": DeepseekOcr2ImageProcessorPil(size=SQUARE, tile_size=48, max_patches=6),
    "a padded square alone": DeepseekOcr2ImageProcessorPil(size=SQUARE, tile_size=256),
    "whole patches": Qwen2VLImageProcessorPil(size={"shortest_edge": 56 * 56, "longest_edge": 280 * 280}),
    "a longest edge": PixtralImageProcessorPil(size={"longest_edge": 160}, patch_size=16),
    "two edges": Idefics2ImageProcessorPil(size={"shortest_edge": 90, "longest_edge": 180}),
}


class View:
    """Of an image processor, with a place that may be wrong."""

    def __init__(self, processor: Any, place: Callable[[Any, Size], Placement]) -> None:
        self.processor, self.place = processor, place

    def placement(self, size: Size) -> Placement:
        return self.place(self.processor, size)

    def tensors(self, image: Image.Image) -> dict[str, Tensor]:
        made = self.processor(image, return_tensors="pt")
        return {name: tensor for name, tensor in made.items() if isinstance(tensor, Tensor)}


@pytest.mark.parametrize("kind", PROCESSORS)
def test_check_placements_finds_the_paint_of(kind: str) -> None:
    assert check_placements(View(PROCESSORS[kind], placed)) is None


def padded_at_the_end(processor: Any, size: Size) -> Placement:
    return replace(placed(processor, size), offset=(0.0, 0.0))


def rounded_down(processor: Any, size: Size) -> Placement:
    width, height = (max(side // 28 * 28, 28) for side in size)
    return resize(size, (width, height))


def transposed(processor: Any, size: Size) -> Placement:
    width, height = placed(processor, size).canvas
    return resize(size, (height, width))


def one_tile_too_far(processor: Any, size: Size) -> Placement:
    columns, rows = columns_and_rows(processor, size)
    return resize(size, ((columns + 1) * 112, rows * 112))


def moved_by_a_tile(processor: Any, size: Size) -> Placement:
    found = placed(processor, size)
    return replace(found, offset=(found.offset[0] + 112, found.offset[1]))


def stretched(processor: Any, size: Size) -> Placement:
    return resize(size, placed(processor, size).canvas)


@pytest.mark.parametrize(
    ("kind", "place", "words"),
    [
        (
            "padded, then resized",
            padded_at_the_end,
            r"200 x 100: tile 0 .* y 1 to 99 of the image, where .* y 0 to 56",
        ),
        ("resized, then padded", padded_at_the_end, "tile 0 of pixel_values .* where the placement has the image"),
        ("tiles of the best canvas", padded_at_the_end, "tile . of pixel_values .* where the placement has the image"),
        ("whole patches", rounded_down, r"patches .* not the grid|patches, where .* no whole number of them"),
        ("whole patches", transposed, r"patches of pixel_values show x .* not the grid of"),
        ("a longest edge", transposed, r"no tile shows cell \(0, 0\) .* of a canvas of 80 x 160"),
        (
            "tiles of the nearest aspect",
            one_tile_too_far,
            r"tile 0 of pixel_values \[112 x 112\] shows x 0 to 100, y 0 to 100 .* 336 x 112",
        ),
        ("tiles of the nearest aspect", moved_by_a_tile, r"tile 1 of pixel_values .* x 112 to 336"),
        ("tiles of the nearest aspect", transposed, "tile 0 of pixel_values .* where the placement has the image"),
        ("tiles of the best canvas", stretched, "an image of .*: tile . of pixel_values"),
        ("resized and cropped", stretched, "tile 0 of pixel_values .* shows x 50 to 150, y 0 to 100 of the image"),
    ],
)
def test_check_placements_tells(kind: str, place: Any, words: str) -> None:
    wrong = check_placements(View(PROCESSORS[kind], place))
    assert wrong is not None
    assert re.search(words, wrong), wrong


class Crops(View):
    """Patches of all of the image in a square, and of two overlapping crops of a canvas, as Molmo 2 sees it."""

    def tensors(self, image: Image.Image) -> dict[str, Tensor]:
        whole, canvas = (
            torch.from_numpy(np.array(image.resize(size, Image.Resampling.BILINEAR))).float()
            for size in ((32, 32), (48, 32))
        )
        crops = torch.stack([whole, canvas[:, :32], canvas[:, 16:]]).unflatten(1, (8, 4)).unflatten(3, (8, 4))
        return {"pixel_values": crops.transpose(2, 3).flatten(3).flatten(1, 2)}


class Padded(View):
    """Patches of an image at its own size, in whole blocks of 16 pixels filled up with grey, as Kimi K2.5 sees it."""

    def tensors(self, image: Image.Image) -> dict[str, Tensor]:
        width, height = (-(-side // 16) * 16 for side in image.size)
        canvas = Image.new("RGB", (width, height), "grey")
        canvas.paste(image)
        pixels = torch.from_numpy(np.array(canvas)).float().unflatten(0, (height // 4, 4)).unflatten(2, (width // 4, 4))
        return {"pixel_values": pixels.transpose(1, 2).flatten(2).flatten(0, 1)}


def over_the_crops(processor: Any, size: Size) -> Placement:
    return resize(size, (48, 32))


def at_its_own_size(processor: Any, size: Size) -> Placement:
    width, height = (-(-side // 16) * 16 for side in size)
    return Placement(source=size, canvas=(width, height))


def test_check_placements_finds_patches_of_crops_and_beside_padding() -> None:
    assert check_placements(Crops(None, over_the_crops)) is None
    assert check_placements(Padded(None, at_its_own_size)) is None


@pytest.mark.parametrize(
    ("view", "place", "words"),
    [
        (Crops, lambda _, size: resize(size, (64, 32)), "64 patches of pixel_values .* not the grid of 16 x 8"),
        (Crops, lambda _, size: fit(size, (48, 32)), "64 patches of pixel_values .* not the grid of 12 x 8"),
        (Padded, lambda _, size: resize(size, at_its_own_size(_, size).canvas), "patches of pixel_values .* not the"),
        (
            Padded,
            lambda _, size: replace(at_its_own_size(_, size), offset=(4.0, 0.0)),
            r"no patch of pixel_values shows cell|patches of pixel_values .* not the grid",
        ),
    ],
)
def test_check_placements_tells_of_patches(view: Any, place: Any, words: str) -> None:
    wrong = check_placements(view(None, place))
    assert wrong is not None
    assert re.search(words, wrong), wrong


def test_check_placements_wants_every_cell_shown() -> None:
    class Cut(View):
        def tensors(self, image: Image.Image) -> dict[str, Tensor]:
            return {name: tensor[1:] for name, tensor in super().tensors(image).items() if name == "pixel_values"}

    processor = PROCESSORS["tiles of the nearest aspect"]
    wrong = check_placements(Cut(processor, placed))
    assert wrong is not None
    assert wrong.startswith(f"an image of {SIZES[0][0]} x {SIZES[0][1]}: no tile shows cell (0, 0)")
