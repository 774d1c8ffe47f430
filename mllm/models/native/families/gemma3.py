"""Gemma 3 and 3n: an image stretched to a square. In Gemma 3 its tokens see one another; text looks back."""

from __future__ import annotations

from typing import Any

from mllm.models.native.family import Family
from mllm.models.native.positions import PackedRows, check_images_fit, with_images_apart
from mllm.models.native.tensors import Tensors
from mllm.models.runtime.packed_attention import mask_arguments
from mllm.registry import FAMILIES


@FAMILIES.register_module("gemma3")
def gemma3() -> Family:
    """Boxes as Gemini writes them; Google says of Gemma 3 only that it likely follows that form.

    Source: Gemma Team 2025 (arXiv 2503.19786); huggingface.co/google/gemma-3-4b-it, discussion 38.
    """
    return Family(codec="gemini", pack=_pack)


@FAMILIES.register_module("gemma3n")
def gemma3n() -> Family:
    """Boxes as Gemma 3. Source: ai.google.dev/gemma/docs, Gemma 3n model card."""
    return Family(codec="gemini")


def _pack(model: Any, rows: PackedRows, images: Tensors) -> dict[str, object]:
    """Each image is a segment of its own, which continues the text before it and is continued by that behind.

    Raises:
        ModelError: an image has more tokens than a layer with a window sees, which would cut it apart.
    """
    window = model.text_model.config.sliding_window
    check_images_fit("mm_tokens_per_image", model.config.mm_tokens_per_image, window)
    spans = with_images_apart(rows, model.image_marks(rows.ids_BT))
    return {"position_ids": rows.position_BT, "token_type_ids": None, **mask_arguments(spans)}
