"""What image processors say of where they put an image: the functions are there, and mean what mllm thinks."""

from __future__ import annotations

import pytest
from PIL import Image
from transformers import Gemma4ImageProcessorPil, LlavaNextImageProcessorPil, Ovis2ImageProcessorPil

from mllm.compat import transformers_placing as compat

SQUARE = {"height": 100, "width": 100}


def test_best_canvas_is_the_one_that_loses_least() -> None:
    processor = LlavaNextImageProcessorPil(image_grid_pinpoints=[[336, 672], [672, 336], [672, 672]])
    assert compat.best_canvas(processor, 1000, 2000) == (336, 672)
    assert compat.best_canvas(processor, 2000, 1000) == (672, 336)


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


def test_size_on_tiles_keeps_the_ratio() -> None:
    pytest.importorskip("torchvision")
    from transformers import Llama4ImageProcessor

    processor = Llama4ImageProcessor(size=SQUARE, max_patches=4)
    inner, canvas = compat.size_on_tiles(processor, 50, 300)
    assert canvas == (100, 300)
    assert inner[1] / inner[0] == pytest.approx(6, rel=0.03)
