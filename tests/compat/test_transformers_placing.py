"""What image processors say of where they put an image: the functions are there, and mean what mllm thinks."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from PIL import Image
from transformers import Gemma4ImageProcessorPil, MllamaImageProcessorPil, Ovis2ImageProcessorPil

from mllm.compat import transformers_placing as compat

SQUARE = {"height": 100, "width": 100}


def test_size_in_budget_is_whole_patches_within_the_budget() -> None:
    processor = Gemma4ImageProcessorPil(patch_size=16, max_soft_tokens=70, pooling_kernel_size=3)
    height, width = compat.size_in_budget(processor, 300, 600)
    assert height % 48 == width % 48 == 0
    assert width > height
    assert height * width <= 70 * 48 * 48


def test_covering_grid_is_what_the_processor_cuts() -> None:
    """transformers 5.23 cuts a wide image into rows: it takes heights for widths there."""
    processor = Ovis2ImageProcessorPil(size=SQUARE, max_patches=4, crop_to_patches=True)
    columns, rows = compat.covering_grid(processor, 100, 300)
    assert (columns, rows) == (1, 3)
    assert processor(Image.new("RGB", (300, 100)))["grids"] == [[rows, columns]]


def test_size_on_canvas_keeps_the_ratio() -> None:
    processor = MllamaImageProcessorPil(size=SQUARE, max_image_tiles=4)
    inner, canvas = compat.size_on_canvas(processor, 120, 300)
    assert canvas in ((200, 300), (100, 300), (200, 200))
    assert inner[1] / inner[0] == pytest.approx(300 / 120, rel=0.03)


def test_tokens_that_see_an_image_stand_from_it_on() -> None:
    mask = compat.tokens_that_see(torch.tensor([[1, 9, 2, 3]]), 9, [[2]], 4)
    assert mask.shape == (1, 4, 1, 4)
    assert mask[0, :, 0].tolist() == [[0, 0, 0, 0], [1, 1, 0, 0], [1, 1, 0, 0], [1, 1, 0, 0]]


def test_size_on_tiles_of_llama_4() -> None:
    pytest.importorskip("torchvision")
    size = SimpleNamespace(height=100, width=100)
    processor = SimpleNamespace(size=size, max_patches=4, resize_to_max_canvas=False)
    inner, canvas = compat.size_on_tiles(processor, 50, 300)
    assert canvas == (100, 300)
    assert inner[1] / inner[0] == pytest.approx(6, rel=0.03)


def test_canvas_of_crops_of_molmo_2() -> None:
    pytest.importorskip("torchvision")
    processor = SimpleNamespace(
        max_crops=4, overlap_margins=[1, 1], size=SimpleNamespace(height=80, width=80), patch_size=10
    )
    assert compat.canvas_of_crops(processor, 80, 80) == (80, 80)
