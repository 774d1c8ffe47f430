"""Each image of a batch through the vision tower once, though several rows show it, or not at all where its features
are kept.

transformers' models take `mm_encoder_outputs`, what `get_image_features` gave, in place of pixels: it is asked for the
distinct images, and its features are handed out to the slots.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor
from transformers import PreTrainedModel
from transformers.utils import ModelOutput

from mllm.errors import ModelError
from mllm.models.native.tensors import Tensors

PIXELS, ENCODED = "pixel_values", "mm_encoder_outputs"
POOLED, HIDDEN, LAYERS = "pooler_output", "last_hidden_state", "deepstack_features"
ENDS = "visual_indicator_features"
"""What stands at the ends of every image of Ovis2, whatever it shows."""
LIST_SUFFIX = "[]"
"""Behind the name of features that the model wants as a list of images."""


@dataclass
class Features(ModelOutput):
    """What models read of `get_image_features`; Granite Docling's gives its router's scores, too, which stay out."""

    pooler_output: object = None
    last_hidden_state: object = None
    deepstack_features: object = None
    router_logits: None = None
    visual_indicator_features: object = None


def encoded_once(model: Any, images: Sequence[Tensors], index: Sequence[int]) -> dict[str, Features] | None:
    """Features of every slot, as the model takes them in place of pixels.

    None: it cannot be told which are of which image.

    Args:
        images: tensors of each distinct image.
        index: the image of each slot.

    Raises:
        ModelError: this cannot be told, and features were to be kept.
    """
    if model.kept is not None and model.kept.active:

        def make(numbers: list[int]) -> list[dict[str, Tensor]]:
            made = _made(model, [images[number] for number in numbers])
            if made is None:
                mixed = f"{model.config.model_type} mixes the features of images"
                raise ModelError(mixed, field="data_args.images.features", expected="'computed'", found="'cached'")
            return made

        each = model.kept.of(make, images[0][PIXELS].device)
    else:
        each = _made(model, images)
    return None if each is None else {"image": _together([each[image] for image in index])}


def features_of(model: PreTrainedModel, images: Tensors) -> Any:
    """What `get_image_features` gives, with the arguments that it names, here or in the model inside (VideoLLaMA 3)."""
    holders: list[Any] = [one for one in (model, getattr(model, "model", None)) if hasattr(one, "get_image_features")]
    wanted = {name for one in holders for name in inspect.signature(one.get_image_features).parameters}
    return holders[0].get_image_features(**{name: images[name] for name in images if name in wanted}, return_dict=True)


@cache
def takes_features(model_class: Any) -> bool:
    """Whether a model of transformers takes features in place of pixels."""
    takes = inspect.signature(model_class.forward).parameters
    without = PIXELS in takes and takes[PIXELS].default is not inspect.Parameter.empty
    return hasattr(model_class, "get_image_features") and ENCODED in takes and without


def is_sharded(model: PreTrainedModel) -> bool:
    """Whether weights are whole only inside the model's own forward pass."""
    first = next(model.parameters())
    return isinstance(first, DTensor) or hasattr(first, "ds_id")


def _made(model: Any, images: Sequence[Tensors]) -> list[dict[str, Tensor]] | None:
    """The features of each image by name; None: it cannot be told which are whose."""
    made = features_of(model, model.family.join(images))
    rows = [image[PIXELS].shape[1] if image[PIXELS].dim() == 5 else len(image[PIXELS]) for image in images]
    found: list[dict[str, Tensor]] = [{} for _ in images]
    for name, features in _named(made):
        listed = not isinstance(features, Tensor)
        if not listed and len(features) == sum(rows):
            parts: Any = features.split(rows)
        elif len(features) == len(rows):
            parts = features if listed else features.split(1)
        else:
            return None
        for image, part in zip(found, parts, strict=True):
            image[name + LIST_SUFFIX if listed else name] = part
    ends = getattr(made, ENDS, None)
    return found if ends is None else [{**image, ENDS: ends} for image in found]


def _named(made: object) -> Iterator[tuple[str, Any]]:
    """Features by names that tell where they belong: the number of a layer, and the layer that they are for."""
    whole = POOLED if getattr(made, POOLED, None) is not None else HIDDEN  # that of Llama 4
    if getattr(made, whole, None) is not None:
        yield whole, getattr(made, whole)
    for number, layer in enumerate(getattr(made, LAYERS, None) or ()):
        meant = isinstance(layer, tuple) and isinstance(layer[0], int)
        yield (f"{LAYERS}.{number}.{layer[0]}", layer[1]) if meant else (f"{LAYERS}.{number}", layer)


def _together(slots: Sequence[Tensors]) -> Features:
    """The inverse of `_made`, for the slots in their order."""
    whole: dict[str, Any] = {}
    layers: dict[int, Any] = {}
    for name in slots[0]:
        parts: Any = [slot[name] for slot in slots]
        features = parts if name.endswith(LIST_SUFFIX) else torch.cat(parts)
        kind, *numbers = name.removesuffix(LIST_SUFFIX).split(".")
        if kind == ENDS:
            whole[kind] = parts[0]
        elif kind != LAYERS:
            whole[kind] = features
        else:
            number, *meant = map(int, numbers)
            layers[number] = (*meant, features) if meant else features
    return Features(**whole, deepstack_features=[layers[number] for number in sorted(layers)] or None)
