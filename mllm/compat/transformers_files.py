"""transformers on what lies in a folder: tokenizers and the sizes that image processors give."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


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


def size_in_patches(height: int, width: int, *, factor: int, least: int, most: int) -> tuple[int, int]:
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


def size_by_longest_side(image: Any, side: int) -> tuple[int, int]:
    """(height, width) that Idefics3 and SmolVLM resize an image [C, H, W] to."""
    from transformers.models.smolvlm.image_processing_pil_smolvlm import get_resize_output_image_size

    return get_resize_output_image_size(image, resolution_max_side=side)
