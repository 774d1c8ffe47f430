"""Llama 3.2 Vision: an image fitted into the best canvas of tiles at its upper left, read by cross-attention."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from mllm.compat.transformers_placing import size_on_canvas, tokens_that_see
from mllm.geometry import Placement
from mllm.models.native.family import Family
from mllm.models.native.placing import Size, at_the_corner
from mllm.models.native.tensors import Tensors
from mllm.registry import FAMILIES

TOKEN = "<|image|>"
"""One for each image, however many tiles it has."""


@FAMILIES.register_module("mllama")
def mllama() -> Family:
    """Trained on no boxes in a public form: they are spoken as Shikra writes them.

    Source: Dubey et al. 2024 (arXiv 2407.21783), section 7.
    """
    return Family(
        codec="shikra",
        token=TOKEN,
        place=_place,
        placeholder_tokens=_placeholder_tokens,
        more=_more,
        pack=None,
        beside=None,
    )


def _place(processor: Any, size: Size) -> Placement:
    inner, canvas = size_on_canvas(processor, size[1], size[0])
    return at_the_corner(size, inner[::-1], canvas[::-1])


def _placeholder_tokens(config: Any, processor: Any, size: Size) -> str:
    return TOKEN


def _more(model: Any, ids_BT: Tensor, labels_BT: Tensor | None, images: Tensors) -> dict[str, Tensor]:
    """Tokens see the images from which on they stand, up to the next."""
    if not images:
        return {}
    tiles = [[int(image.sum()) for image in row] for row in images["aspect_ratio_mask"]]
    most = model.config.vision_config.max_num_tiles
    return {"cross_attention_mask": tokens_that_see(ids_BT, model.image_token_id, tiles, most)}
