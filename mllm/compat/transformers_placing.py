"""transformers' image processors on where they put an image, asked without an image; sizes are (height, width)."""

from __future__ import annotations

from typing import Any

import torch

from mllm.compat.names import member


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


def size_by_area(processor: Any, height: int, width: int) -> tuple[int, int]:
    """That Emu 3's image processor resizes an image to: whole blocks, between two numbers of pixels."""
    from transformers.models.emu3.image_processing_emu3 import smart_resize

    return smart_resize(
        height,
        width,
        factor=processor.spatial_factor,
        min_pixels=processor.min_pixels,
        max_pixels=processor.max_pixels,
    )


def size_in_tokens(processor: Any, height: int, width: int) -> tuple[int, int]:
    """That Muse's image processor resizes an image to: whole blocks of patches, up to a number of them."""
    from transformers.models.muse_glimmer.image_processing_muse_glimmer import smart_resize

    return smart_resize(
        height,
        width,
        patch_size=processor.patch_size * processor.merge_size,
        max_tokens=processor.max_image_tokens,
    )


def grid_in_budget(processor: Any, height: int, width: int) -> tuple[int, int]:
    """(rows, columns) of patches that Nemotron Omni's image processor resizes an image by itself to."""
    from transformers.models.nemotron_h_omni.image_processing_nemotron_h_omni import get_patch_grid_size

    merge, least = round(1 / processor.downsample_ratio), processor.min_num_patches
    most = max((processor.max_model_len - 4) * merge**2, least)
    most = max(min(most, processor.max_num_patches or most), least)
    return get_patch_grid_size(height, width, processor.patch_size, merge, least, most)


def size_and_canvas(processor: Any, height: int, width: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """(height, width) that Kimi K2.5's image processor shrinks an image to, and those of the whole blocks of patches
    that it is padded to.
    """
    from transformers.models.kimi_k25.image_processing_kimi_k25 import navit_resize

    return navit_resize(
        height,
        width,
        patch_size=processor.patch_size,
        merge_kernel_size=processor.merge_size,
        max_patches=processor.max_patches,
        max_size_per_side=processor.size["max_height"],
    )


def canvas_in_tokens(processor: Any, height: int, width: int) -> tuple[int, int]:
    """(height, width) of the canvas of whole blocks of patches that GLM-5's image processor puts an image on."""
    from transformers.models.glm5_next.image_processing_pil_glm5_next import smart_resize

    return smart_resize(
        num_frames=processor.temporal_patch_size,
        height=height,
        width=width,
        temporal_factor=processor.temporal_patch_size,
        factor=processor.patch_size * processor.merge_size * processor.patch_expand_factor,
        min_pixels=processor.min_image_tokens,
        max_pixels=processor.max_image_tokens,
    )


def canvas_of_crops(processor: Any, height: int, width: int) -> tuple[int, int]:
    """(height, width) of the canvas that Molmo 2's image processor cuts overlapping crops from."""
    from transformers.models.molmo2.image_processing_molmo2 import compute_crop_geometry

    return compute_crop_geometry(
        height,
        width,
        max_crops=processor.max_crops,
        overlap_margins=processor.overlap_margins,
        crop_size=processor.size["height"],
        patch_size=processor.patch_size,
    )[2:]


def size_on_canvas(processor: Any, height: int, width: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """(height, width) that Mllama's image processor resizes an image to, and those of the tiles that it lies on."""
    from transformers.models.mllama import image_processing_pil_mllama as mllama

    side = processor.size.height
    down, across = mllama.get_optimal_tiled_canvas(height, width, processor.max_image_tiles, side)
    inner = mllama.get_image_size_fit_to_canvas(height, width, int(down), int(across), side)
    return (int(inner[0]), int(inner[1])), (int(down), int(across))


def grid_of_canvas(processor: Any, height: int, width: int) -> tuple[int, int]:
    """(columns, rows) of the tiles that Perception LM's image processor stretches an image over."""
    if processor.vision_input_type != "thumb+tile" or processor.max_num_tiles <= 1:
        return 1, 1
    asked = {"img_width": width, "img_height": height, "tile_size": processor.tile_size}
    fitting = member(processor, "_fit_image_to_canvas")(**asked)
    return fitting or member(processor, "_find_closest_aspect_ratio")(**asked)


def optimal_grid(processor: Any, height: int, width: int) -> tuple[int, int]:
    """(columns, rows) of the tiles that Cohere 2 Vision's image processor stretches an image over."""
    from transformers.models.cohere2_vision.image_processing_cohere2_vision import get_optimal_tiled_canvas

    tile = (processor.size.height, processor.size.width)
    columns, rows = get_optimal_tiled_canvas((height, width), tile, processor.min_patches, processor.max_patches)
    return int(columns), int(rows)
