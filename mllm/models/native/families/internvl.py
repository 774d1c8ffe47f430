"""InternVL 2.5, 3 and 3.5 in transformers' layout: the image stretched over tiles, and as a whole beside them."""

from __future__ import annotations

from typing import Any

from mllm.compat.transformers_files import grid_of_tiles
from mllm.geometry import Placement, resize
from mllm.models.native.family import Family, Size, Tensors, as_numbered
from mllm.registry import FAMILIES

CONTEXT = "<IMG_CONTEXT>"
SETTINGS = {"crop_to_patches": True}


@FAMILIES.register_module("internvl")
def internvl() -> Family:
    """Source: Chen et al. 2024 (arXiv 2412.05271)."""
    return Family(
        codec="internvl",
        token=CONTEXT,
        place=_place,
        placeholder_tokens=_placeholder_tokens,
        settings=SETTINGS,
        rows=_rows,
        beside=(),
        pack=as_numbered,
    )


def _tiles(processor: Any, size: Size) -> tuple[int, int]:
    """Columns and rows."""
    if processor.max_patches <= 1:
        return 1, 1
    width, height = size
    tile = (processor.size.height, processor.size.width)
    return grid_of_tiles(height, width, tile=tile, least=processor.min_patches, most=processor.max_patches)


def _place(processor: Any, size: Size) -> Placement:
    columns, rows = _tiles(processor, size)
    return resize(size, (columns * processor.size.width, rows * processor.size.height))


def _placeholder_tokens(config: Any, processor: Any, size: Size) -> str:
    columns, rows = _tiles(processor, size)
    tiles = columns * rows + (columns * rows > 1)
    vision = config.vision_config
    patches = (vision.image_size[0] // vision.patch_size[0]) * (vision.image_size[1] // vision.patch_size[1])
    return f"<img>{CONTEXT * (tiles * int(patches * config.downsample_ratio**2))}</img>"


def _rows(tensors: Tensors) -> dict[str, Any]:
    return {"pixel_values": tensors["pixel_values"]}
