"""transformers' image processors on where they put an image, asked without an image; sizes are (height, width)."""

from __future__ import annotations

from typing import Any

import torch


def best_canvas(processor: Any, height: int, width: int) -> tuple[int, int]:
    """(height, width) of the canvas that LLaVA-NeXT's image processor chooses among those of its settings."""
    from transformers.image_processing_utils import select_best_resolution

    return select_best_resolution((height, width), processor.image_grid_pinpoints)


def size_in_budget(processor: Any, height: int, width: int) -> tuple[int, int]:
    """That Gemma 4's image processor resizes an image to: as many patches as its budget of tokens allows."""
    from transformers.models.gemma4.image_processing_pil_gemma4 import get_aspect_ratio_preserving_size

    return get_aspect_ratio_preserving_size(
        height=height,
        width=width,
        patch_size=processor.patch_size,
        max_patches=processor.max_soft_tokens * processor.pooling_kernel_size**2,
        pooling_kernel_size=processor.pooling_kernel_size,
    )


def covering_grid(processor: Any, height: int, width: int) -> tuple[int, int]:
    """(columns, rows) of the tiles that Ovis2's image processor cuts an image into."""
    from transformers.models.ovis2.image_processing_pil_ovis2 import get_min_tile_covering_grid

    return get_min_tile_covering_grid(
        (height, width),
        target_patch_size=processor.size.height,
        max_image_tiles=processor.max_patches,
        covering_threshold=0.9,
    )


def size_on_tiles(processor: Any, height: int, width: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """(height, width) that Llama 4's image processor resizes an image to, and those of the tiles that it lies on."""
    from transformers.models.llama4 import image_processing_llama4 as llama4

    known = torch.tensor(llama4.find_supported_resolutions(processor.max_patches, processor.size))
    size = (height, width)
    canvas = llama4.get_best_fit(size, known, resize_to_max_canvas=processor.resize_to_max_canvas)
    canvas = (int(canvas[0]), int(canvas[1]))
    largest = canvas
    if not processor.resize_to_max_canvas:
        least = processor.size.height
        largest = (min(max(height, least), canvas[0]), min(max(width, least), canvas[1]))
    inner = llama4.get_max_res_without_distortion(size, largest)
    return (max(int(inner[0]), 1), max(int(inner[1]), 1)), canvas
