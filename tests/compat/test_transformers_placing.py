"""What image processors say of where they put an image: the functions are there, and mean what mllm thinks."""

from __future__ import annotations

from typing import Any

import pytest
from PIL import Image
from transformers import (
    Emu3ImageProcessor,
    Gemma4ImageProcessorPil,
    Glm5NextImageProcessorPil,
    LlavaNextImageProcessorPil,
    MllamaImageProcessorPil,
    Ovis2ImageProcessorPil,
)

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


def test_size_by_area_is_whole_blocks_between_two_areas() -> None:
    processor = Emu3ImageProcessor(min_pixels=64 * 64, max_pixels=128 * 128, spatial_factor=8)
    height, width = compat.size_by_area(processor, 300, 600)
    assert height % 8 == width % 8 == 0
    assert 64 * 64 <= height * width <= 128 * 128
    assert processor(Image.new("RGB", (600, 300)))["image_sizes"] == [(height, width)]


def test_canvas_in_tokens_is_what_the_processor_cuts_into_patches() -> None:
    settings: Any = {"patch_size": 4, "merge_size": 2, "min_image_tokens": 4, "max_image_tokens": 64}
    processor = Glm5NextImageProcessorPil(**settings)
    height, width = compat.canvas_in_tokens(processor, 50, 90)
    assert processor(Image.new("RGB", (90, 50)))["image_grid_thw"].tolist() == [[1, height // 4, width // 4]]


def test_placements_that_want_torchvision_are_those_of_their_processors() -> None:
    pytest.importorskip("torchvision")
    import transformers

    library: Any = transformers
    image = Image.new("RGB", (90, 50))
    kimi = library.Kimi_K25ImageProcessor(patch_size=4, merge_size=2, max_patches=256)
    inner, canvas = compat.size_and_canvas(kimi, 50, 90)
    assert (inner, canvas) == ((50, 90), (56, 96))
    assert kimi(image)["image_grid_thw"].tolist() == [[1, 14, 24]]
    muse = library.MuseGlimmerImageProcessor(patch_size=4, merge_size=2, max_image_tokens=64)
    height, width = compat.size_in_tokens(muse, 50, 90)
    assert muse(image)["image_grid_thw"].tolist() == [[1, height // 4, width // 4]]
    nemotron = library.NemotronH_Omni_Reasoning_V3ImageProcessor(patch_size=4, min_num_patches=16, max_num_patches=64)
    assert nemotron(image)["image_grid_hw"].tolist() == [list(compat.grid_in_budget(nemotron, 50, 90))]
    molmo = library.Molmo2ImageProcessor(
        size={"height": 32, "width": 32}, patch_size=4, max_crops=4, overlap_margins=[2, 2]
    )
    height, width = compat.canvas_of_crops(molmo, 50, 90)
    assert molmo(image)["image_grids"].tolist()[0][2:] == [height // 8, width // 8]


def test_size_on_canvas_is_the_upper_left_of_whole_tiles() -> None:
    processor = MllamaImageProcessorPil(size=SQUARE, max_image_tiles=4)
    assert compat.size_on_canvas(processor, 50, 300) == ((50, 300), (100, 300))
    assert compat.size_on_canvas(processor, 400, 400) == ((200, 200), (200, 200))


def test_size_on_tiles_keeps_the_ratio() -> None:
    pytest.importorskip("torchvision")
    from transformers import Llama4ImageProcessor

    processor = Llama4ImageProcessor(size=SQUARE, max_patches=4)
    inner, canvas = compat.size_on_tiles(processor, 50, 300)
    assert canvas == (100, 300)
    assert inner[1] / inner[0] == pytest.approx(6, rel=0.03)
