"""Each image of a batch through the vision tower once, though several rows show it.

transformers' models take `mm_encoder_outputs`, what `get_image_features` gave, in place of pixels: it is asked for the
distinct images, and its features are handed out to the slots.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

from mllm.models.native.tensors import Tensors

PIXELS, ENCODED = "pixel_values", "mm_encoder_outputs"
FEATURES = ("pooler_output", "deepstack_features")
"""What models read of `get_image_features`."""


def encoded_once(
    model: Any, images: Sequence[Tensors], joined: Tensors, index: Sequence[int], slots: Tensors
) -> dict[str, Any] | None:
    """The arguments of the images of every slot, with features in place of pixels; None: its class cannot.

    Args:
        images: tensors of each distinct image; `joined`: as one batch of the model's arguments.
        index: the image of each slot.
        slots: the model's arguments for the images of all slots.
    """
    if not takes_features(type(model)) or PIXELS not in joined:
        return None
    wanted = inspect.signature(model.get_image_features).parameters
    made = model.get_image_features(**{name: joined[name] for name in joined if name in wanted}, return_dict=True)
    rows = [image[PIXELS].shape[1] if image[PIXELS].dim() == 5 else len(image[PIXELS]) for image in images]
    for name in [name for name in made if name not in FEATURES]:
        made[name] = None  # of all layers and patches
    for name in FEATURES:
        value = getattr(made, name, None)
        if value is None:
            continue
        layers = value if name == "deepstack_features" else [value]
        spread = [_spread(layer, rows, index) for layer in layers]
        if any(layer is None for layer in spread):
            return None
        setattr(made, name, spread if name == "deepstack_features" else spread[0])
    return {**{name: tensor for name, tensor in slots.items() if name != PIXELS}, ENCODED: {"image": made}}


@cache
def takes_features(model_class: Any) -> bool:
    """Whether a model of transformers takes features in place of pixels."""
    return hasattr(model_class, "get_image_features") and ENCODED in inspect.signature(model_class.forward).parameters


def is_sharded(model: Any) -> bool:
    """Whether weights are whole only inside the model's own forward pass."""
    first = next(model.parameters())
    return isinstance(first, DTensor) or hasattr(first, "ds_id")


def _spread(features: Any, rows: Sequence[int], index: Sequence[int]) -> Any:
    """Features of distinct images -> those of every slot; None: it cannot be told which are of which image."""
    if isinstance(features, Tensor):
        if len(features) == sum(rows):
            parts = features.split(list(rows))
            return torch.cat([parts[image] for image in index])
        return features[list(index)] if len(features) == len(rows) else None
    if isinstance(features, tuple) and isinstance(features[0], int):  # beside the layer that they are for
        spread = _spread(features[1], rows, index)
        return None if spread is None else (features[0], spread)
    return [features[image] for image in index] if len(features) == len(rows) else None
