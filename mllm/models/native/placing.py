"""Where image processors put an image, by their own settings; whether they do is proved by `self_check`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from mllm.compat.transformers_files import grid_of_tiles, size_in_patches, size_within
from mllm.compat.transformers_placing import best_canvas
from mllm.errors import ModelError
from mllm.geometry import Placement, centre_crop, check_canvas, fit, pad_to_square, resize, resize_short_side

Size = tuple[int, int]
"""Width and height in pixels."""
Place = Callable[[Any, Size], Placement]


def placed(processor: Any, size: Size) -> Placement:
    """The placement of the first way below whose settings the image processor has.

    Raises:
        ModelError: it has those of none; a family file with a `place` of its own is needed.
    """
    target = _edges(processor)
    has = {name for name in ("shortest_edge", "longest_edge", "height", "width") if target.get(name)}
    if hasattr(processor, "merge_size") and has >= {"shortest_edge", "longest_edge"}:
        return in_whole_patches(processor, size)
    if getattr(processor, "image_grid_pinpoints", None):
        return on_best_canvas(processor, size)
    if hasattr(processor, "crop_to_patches") and hasattr(processor, "tile_size"):
        return in_tiles_or_on_a_square(processor, size)
    if getattr(processor, "crop_to_patches", False):
        return in_tiles(processor, size)
    if "longest_edge" in has and ("shortest_edge" in has or hasattr(processor, "patch_size")):
        return within_edges(processor, size)
    if hasattr(processor, "pad_to_square") and processor.do_pad:
        return on_a_square(processor, size)
    if "shortest_edge" in has or has >= {"height", "width"}:
        return as_set(processor, size)
    raise ModelError(
        f"{type(processor).__name__} does not say where it puts an image; its family needs a `place` of its own",
        field="size",
        expected="shortest_edge, or height and width",
        found=str(getattr(processor, "size", None)),
    )


def as_set(processor: Any, size: Size) -> Placement:
    """As CLIP's: resized as `size` says, then cropped if it crops."""
    target = _edges(processor)
    if shortest := target.get("shortest_edge"):
        found = resize_short_side(size, shortest)
    else:
        found = resize(size, (target["width"], target["height"]))
    check_canvas(size, found.canvas)
    if not getattr(processor, "do_center_crop", False):
        return found
    crop = dict(processor.crop_size)
    return found.then(centre_crop(found.canvas, (crop["width"], crop["height"])))


def in_whole_patches(processor: Any, size: Size) -> Placement:
    """As Qwen-VL's: resized to whole blocks of patches, between two numbers of pixels, aspect nearly kept."""
    height, width = size_in_patches(processor, size[1], size[0])
    return resize(size, (width, height))


def on_best_canvas(processor: Any, size: Size) -> Placement:
    """As LLaVA-NeXT's: fitted into the best of several canvases and centred there; tiles are cut from the canvas."""
    height, width = best_canvas(processor, size[1], size[0])
    return fit(size, (width, height))


def in_tiles(processor: Any, size: Size) -> Placement:
    """As InternVL's: stretched over tiles of the nearest aspect ratio."""
    columns, rows = columns_and_rows(processor, size)
    return resize(size, (columns * processor.size.width, rows * processor.size.height))


def in_tiles_or_on_a_square(processor: Any, size: Size) -> Placement:
    """As DeepSeek-OCR 2's: larger images than a tile stretched over tiles, with a padded square beside them; smaller
    ones on the padded square alone.
    """
    side = processor.tile_size
    if not processor.crop_to_patches or max(size) <= side:
        return _scaled_to_a_square(size, processor.size.height if processor.crop_to_patches else side, least=1)
    columns, rows = grid_of_tiles(
        size[1], size[0], tile=(side, side), least=processor.min_patches, most=processor.max_patches
    )
    return resize(size, (columns * side, rows * side))


def columns_and_rows(processor: Any, size: Size) -> tuple[int, int]:
    """Of the tiles of `in_tiles`."""
    if processor.max_patches <= 1:
        return 1, 1
    tile = (processor.size.height, processor.size.width)
    return grid_of_tiles(size[1], size[0], tile=tile, least=processor.min_patches, most=processor.max_patches)


def within_edges(processor: Any, size: Size) -> Placement:
    """As Pixtral's and Idefics2's: shrunk to a longest edge, in whole patches or to a shortest edge, aspect kept."""
    blank = np.broadcast_to(np.uint8(0), (3, size[1], size[0]))  # only its shape is read
    height, width = size_within(processor, blank)
    return resize(size, (width, height))


def on_a_square(processor: Any, size: Size) -> Placement:
    """As LLaVA 1.5's, which pads to a square and resizes it, or as DeepSeek-VL's and Janus', the other way round."""
    least: int | None = getattr(processor, "min_size", None)
    if least is None:
        padded = pad_to_square(size)
        side = as_set(processor, padded.canvas)
        return padded.then(side)
    return _scaled_to_a_square(size, processor.size.height, least=least)


def _scaled_to_a_square(size: Size, side: int, *, least: int) -> Placement:
    """Scaled to a longest edge, and padded."""
    width, height = (max(round(edge * side / max(size)), least) for edge in size)
    scaled = resize(size, (width, height))
    return scaled.then(pad_to_square(scaled.canvas))


def at_the_corner(size: Size, inner: Size, canvas: Size) -> Placement:
    """Scaled to `inner`, at the upper left of the canvas."""
    return resize(size, inner).then(Placement(source=inner, canvas=canvas))


def _edges(processor: Any) -> dict[str, int]:
    """`size`, which the older of transformers' image processors keep as a mapping."""
    return dict(getattr(processor, "size", None) or {})
