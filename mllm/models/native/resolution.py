"""Bounds on images as the settings of a family's own image processor."""

from __future__ import annotations

import copy
import json
from math import isqrt
from typing import Any

from mllm.errors import ConfigError
from mllm.images.resolution import Resolution

RESOLUTION_SETTINGS = (
    *("size", "crop_size", "max_image_size", "patch_size", "merge_size", "image_grid_pinpoints"),
    *("crop_to_patches", "min_patches", "max_patches", "max_image_tiles", "max_slice_nums", "max_soft_tokens"),
    *("do_image_splitting", "do_center_crop"),
)
"""Settings that say in which resolution images are seen."""
COUNTS = ("max_image_tiles", "max_slice_nums")
"""Numbers of tiles, by other names than `max_patches`."""


def settings_for(processor: Any, resolution: Resolution) -> dict[str, object]:
    """Settings of an image processor by which it keeps the bounds.

    Raises:
        ConfigError: it takes other bounds, or none.
    """
    takes, settings = _settings(processor, resolution)
    for name, value in resolution.given.items():
        if name not in takes:
            kind = type(processor).__name__
            expected = (
                f"{' or '.join(takes)}, which {kind} takes" if takes else f"no bound: images of {kind} have one size"
            )
            raise ConfigError(field=name, expected=expected, found=str(value))
    return settings


def override_resolution(processor: Any, resolution: Resolution) -> Any:
    """The same image processor within other bounds; raises as `settings_for`."""
    settings = settings_for(processor, resolution)
    changed = copy.deepcopy(processor)
    own = type(processor).from_dict({**processor.to_dict(), **settings})
    for name in settings:
        setattr(changed, name, getattr(own, name))
    return changed


def describe_resolution(processor: Any) -> dict[str, Any]:
    """In which resolution an image processor shows images: its settings of that, as JSON holds them."""
    known = json.loads(processor.to_json_string())
    return {name: known[name] for name in RESOLUTION_SETTINGS if known.get(name) is not None}


def _settings(processor: Any, asked: Resolution) -> tuple[tuple[str, ...], dict[str, object]]:
    """The bounds that a processor takes, and its settings for those that are asked for."""
    size = getattr(processor, "size", None)
    shortest, longest = (getattr(size, name, None) for name in ("shortest_edge", "longest_edge"))
    if hasattr(processor, "merge_size") and shortest and longest:
        return ("min_pixels", "max_pixels", "max_tokens"), {"size": _pixels(processor, asked, shortest, longest)}
    if getattr(processor, "image_grid_pinpoints", None):
        return ("max_tiles",), _grids(processor, asked)
    if hasattr(processor, "crop_to_patches"):
        return ("max_tiles",), _counted(processor, asked)
    if getattr(processor, "do_image_splitting", False) and hasattr(processor, "max_image_size"):
        side = processor.max_image_size["longest_edge"]
        return ("max_tiles",), {"size": {"longest_edge": isqrt(asked.max_tiles) * side}} if asked.max_tiles else {}
    for name in COUNTS:
        if hasattr(processor, name):
            return ("max_tiles",), {name: asked.max_tiles} if asked.max_tiles else {}
    if hasattr(processor, "max_soft_tokens"):
        return ("max_tokens",), {"max_soft_tokens": asked.max_tokens} if asked.max_tokens else {}
    if longest and hasattr(processor, "patch_size"):
        return ("longest_edge",), {"size": {"longest_edge": asked.longest_edge}} if asked.longest_edge else {}
    return (), {}


def _pixels(processor: Any, asked: Resolution, shortest: int, longest: int) -> dict[str, int]:
    """Of Qwen-VL's kind; what is not asked for stays, as far as the other bound leaves room."""
    block = (processor.patch_size * processor.merge_size) ** 2
    bounds = [bound for bound in (asked.max_pixels, asked.max_tokens and asked.max_tokens * block) if bound]
    most = min(bounds) if bounds else max(longest, asked.min_pixels or 0)
    least = asked.min_pixels or min(shortest, most)
    if least > most or most < block:
        raise ConfigError(
            field="max_tokens" if asked.max_tokens else "max_pixels",
            expected=f"at least {max(least, block)} pixels",
            found=f"{most}",
        )
    return {"shortest_edge": least, "longest_edge": most}


def _grids(processor: Any, asked: Resolution) -> dict[str, object]:
    """Of LLaVA-NeXT's kind: the canvases that so many tiles cover."""
    canvases: list[list[int]] = [list(canvas) for canvas in processor.image_grid_pinpoints]
    side = min(edge for canvas in canvases for edge in canvas)
    if not asked.max_tiles:
        return {}
    kept = [canvas for canvas in canvases if canvas[0] * canvas[1] <= asked.max_tiles * side**2]
    if not kept:
        least = min(height * width for height, width in canvases) // side**2
        raise ConfigError(
            field="max_tiles", expected=f"at least {least}, the smallest of its canvases", found=str(asked.max_tiles)
        )
    return {"image_grid_pinpoints": kept}


def _counted(processor: Any, asked: Resolution) -> dict[str, object]:
    """Of InternVL's kind."""
    if not asked.max_tiles:
        return {}
    if asked.max_tiles < processor.min_patches:
        least = f"at least {processor.min_patches}, its min_patches"
        raise ConfigError(field="max_tiles", expected=least, found=str(asked.max_tiles))
    return {"max_patches": asked.max_tiles}
