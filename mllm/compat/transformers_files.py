"""transformers on what lies in a folder: tokenizers and the sizes that image processors give."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Mapping
from typing import Any

from mllm.compat.names import member


def tokenizer_of(model_type: str) -> str | None:
    """Name of the tokenizer class that belongs to a model type; None: it has none of its own."""
    from transformers.models.auto.tokenization_auto import TOKENIZER_MAPPING_NAMES

    return TOKENIZER_MAPPING_NAMES.get(model_type)


def is_tokenizer_class(name: str) -> bool:
    """Whether transformers has a tokenizer class of this name."""
    from transformers.models.auto.tokenization_auto import tokenizer_class_from_name

    return tokenizer_class_from_name(name) is not None


def merges_of(vocabulary: Mapping[str, int], scores: Mapping[str, float]) -> list[Any]:
    """The merges of a sentencepiece vocabulary of byte-pair encoding, in the order of their scores."""
    from transformers.convert_slow_tokenizer import generate_merges

    return generate_merges(dict(vocabulary), dict(scores))


def size_in_patches(processor: Any, height: int, width: int) -> tuple[int, int]:
    """(height, width) that an image processor of Qwen-VL's kind resizes an image to, by the function of its module.

    Raises:
        ValueError: an image far too narrow.
    """
    function = _beside(processor, "smart_resize")
    frames = getattr(processor, "temporal_patch_size", 1)
    known = {
        "height": height,
        "width": width,
        "factor": processor.patch_size * processor.merge_size,
        "min_pixels": processor.size.shortest_edge,
        "max_pixels": processor.size.longest_edge,
        "num_frames": frames,
        "temporal_factor": frames,
    }
    wanted = inspect.signature(function).parameters
    return function(**{name: value for name, value in known.items() if name in wanted})


def size_in_multiples(height: int, width: int, *, factor: int, least: int, most: int) -> tuple[int, int]:
    """(height, width) of an image for Qwen2-VL: multiples of `factor`, between `least` and `most` pixels in all.

    Raises:
        ValueError: an image far too narrow.
    """
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize

    return smart_resize(height, width, factor, least, most)


def grid_of_tiles(height: int, width: int, *, tile: tuple[int, int], least: int, most: int) -> tuple[int, int]:
    """(columns, rows) of the tiles that InternVL cuts an image into."""
    from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import get_optimal_tiled_canvas

    return get_optimal_tiled_canvas((height, width), tile, least, most)


def size_within(processor: Any, image: object) -> tuple[int, int]:
    """(height, width) that the image processors of Pixtral and Idefics2 resize an image [C, H, W] to."""
    function = _beside(processor, "get_resize_output_image_size")
    if "patch_size" not in inspect.signature(function).parameters:
        return function(image, processor.size)
    patch, most = processor.patch_size, processor.size.longest_edge
    sides = (patch, patch) if isinstance(patch, int) else (patch["height"], patch["width"])
    return function(image, size=(most, most), patch_size=sides, input_data_format="channels_first")


def size_by_longest_side(image: Any, side: int) -> tuple[int, int]:
    """(height, width) that Idefics3 and SmolVLM resize an image [C, H, W] to."""
    from transformers.models.smolvlm.image_processing_pil_smolvlm import get_resize_output_image_size

    return get_resize_output_image_size(image, resolution_max_side=side)


def _beside(processor: Any, name: str) -> Any:
    """The function of this name in the module of an image processor's class, or of one that it derives from."""
    modules = [sys.modules[kind.__module__] for kind in type(processor).__mro__ if kind.__module__ in sys.modules]
    found = next((getattr(module, name) for module in modules if hasattr(module, name)), None)
    return member(modules[0], name) if found is None else found
