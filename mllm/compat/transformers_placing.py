"""transformers' image processors on where they put an image, asked without an image; sizes are (height, width)."""

from __future__ import annotations

from typing import Any


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
