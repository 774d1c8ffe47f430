"""Gemma 4: an image resized to whole patches within a budget of tokens, its aspect nearly kept."""

from __future__ import annotations

from typing import Any

from mllm.compat.transformers_placing import size_in_budget
from mllm.geometry import Placement, resize
from mllm.models.native.family import Family
from mllm.models.native.placing import Size
from mllm.models.native.positions import TOKEN_TYPES, PackedRows, as_numbered, check_images_fit, with_images_apart
from mllm.models.native.tensors import Tensors
from mllm.models.runtime.packed_attention import mask_arguments
from mllm.registry import FAMILIES


@FAMILIES.register_module(["gemma4", "gemma4_unified"])
def gemma4() -> Family:
    """Boxes as Gemini writes them.

    Source: ai.google.dev/gemma/docs, Gemma 4 model card.
    """
    return Family(codec="gemini", place=_place, pack=_pack)


def _place(processor: Any, size: Size) -> Placement:
    height, width = size_in_budget(processor, size[1], size[0])
    return resize(size, (width, height))


def _pack(model: Any, rows: PackedRows, images: Tensors) -> dict[str, object]:
    """In the larger models (26B, 31B) the tokens of an image see one another, in layers with a window only; in the
    smaller ones (E2B, E4B) all look back.

    Raises:
        ModelError: an image may have more tokens than a layer with a window sees, which would cut it apart.
    """
    config = model.text_model.config
    if config.use_bidirectional_attention != "vision":
        return {**as_numbered(model, rows, images), TOKEN_TYPES: None}
    check_images_fit("max_soft_tokens", model.view.image_processor.max_soft_tokens, config.sliding_window)
    spans = with_images_apart(rows, model.image_marks(rows.ids_BT), only_in_windows=True)
    return {"position_ids": rows.position_BT, TOKEN_TYPES: None, **mask_arguments(spans)}
