"""Llama 4: an image fitted into the best canvas of tiles at its upper left, and as a whole behind them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from mllm.compat.transformers_placing import size_on_tiles
from mllm.geometry import Placement
from mllm.models.native.family import Family
from mllm.models.native.placing import Size, at_the_corner
from mllm.models.native.tensors import Tensors, join_images
from mllm.registry import FAMILIES


@FAMILIES.register_module("llama4")
def llama4() -> Family:
    """Trained on no boxes in a public form: they are spoken as Shikra writes them.

    Source: github.com/meta-llama/llama-models, models/llama4.
    """
    return Family(codec="shikra", place=_place, join=_join, features=_features)


def _place(processor: Any, size: Size) -> Placement:
    (height, width), (down, across) = size_on_tiles(processor, size[1], size[0])
    return at_the_corner(size, (width, height), (across, down))


def _join(images: Sequence[Tensors]) -> dict[str, Tensor]:
    """Its processor makes half precision of every image."""
    return {
        name: tensor.float() if tensor.dtype == torch.bfloat16 else tensor
        for name, tensor in join_images(images).items()
    }


def _features(model: Any, images: Tensors) -> list[Tensor]:
    """Its class gives what its tower makes, and projects it itself."""
    made = model.get_image_features(images["pixel_values"], return_dict=True)
    return [model.multi_modal_projector(made.last_hidden_state)]
