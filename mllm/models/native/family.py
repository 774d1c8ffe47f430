"""What a family of transformers' vision language models does its own way, beyond what its folder says of itself.

Families live in `families/`, one file each, registered under the `model_type` of their config.json.

Shape suffixes: B rows, T tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from mllm.errors import ConfigError, ModelError
from mllm.fields import show
from mllm.files import read_json
from mllm.geometry import Placement, centre_crop, check_canvas, resize, resize_short_side
from mllm.models.runtime.packed_attention import PackedAttentionMask, reading
from mllm.registry import FAMILIES

Size = tuple[int, int]
"""Width and height in pixels."""
Tensors = Mapping[str, Tensor]


def as_it_is(tensors: Tensors) -> dict[str, Tensor]:
    return dict(tensors)


def nothing_more(model: Any, ids_BT: Tensor, labels_BT: Tensor | None, images: Tensors) -> dict[str, Tensor]:
    return {}


def as_loaded(model: Any) -> None:
    pass


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedRows:
    """Rows that hold several samples."""

    ids_BT: Tensor
    labels_BT: Tensor | None
    position_BT: Tensor
    """int64: the number of a token in its own sample."""
    segment_BT: Tensor
    prefix_BT: Tensor
    """int64, as in `attention.PackedAttentionMask`."""

    @property
    def spans(self) -> PackedAttentionMask:
        return PackedAttentionMask(self.segment_BT, self.prefix_BT)


def as_numbered(model: Any, rows: PackedRows, images: Tensors) -> dict[str, Any]:
    """Positions are those in the samples."""
    return {"position_ids": rows.position_BT, **reading(rows.spans)}


def image_features(model: Any, images: Tensors) -> list[Tensor]:
    """Everything that the vision tower and the connector make of images."""
    made = model.get_image_features(**images, return_dict=True)
    layers = getattr(made, "deepstack_features", None) or []
    return _flat([made.pooler_output, *layers])


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """Functions are those of a module, not lambdas: the view that holds them goes to data loading workers.

    Attributes:
        codec: the region codec that the family was trained on; for a family that speaks no boxes the plainest.
        template: of its conversations.
        token: stands for one feature of an image, and in the rendered text for the whole image.
        place: (image processor, size) -> where the processor puts an image of that size, from the size alone.
        placeholder_tokens: (config, image processor, size) -> the text that replaces `token` in the rendered text.
        settings: arguments with which the family's own processor calls its image processor.
        rows: the image processor's tensors for one image -> those that are joined along the first dimension.
        images: the joined tensors -> the model's arguments.
        more: (model, ids, labels or None, images) -> further arguments that follow from the text.
        features: (model, images) -> features, for images that only keep ranks in step.
        sees_first: whether the model reads images before it embeds the text.
        prepare: changes a model that was just loaded.
        beside: attributes in which the model remembers a row of each prompt beside its cache; None: prompts cannot
            share a beginning, since what follows changes how it is read.
        pack: (model, rows, images) -> the arguments by which packed rows do not mix, before those of `more`; None: it
            computes positions or masks of its own, which would.
    """

    codec: str
    template: str = "chat"
    token: str
    place: Callable[[Any, Size], Placement]
    placeholder_tokens: Callable[[Any, Any, Size], str]
    settings: Mapping[str, Any] = field(default_factory=dict)
    rows: Callable[[Tensors], dict[str, Tensor]] = as_it_is
    images: Callable[[Tensors], dict[str, Tensor]] = as_it_is
    more: Callable[[Any, Tensor, Tensor | None, Tensors], dict[str, Tensor]] = nothing_more
    features: Callable[[Any, Tensors], list[Tensor]] = image_features
    sees_first: bool = False
    prepare: Callable[[Any], None] = as_loaded
    beside: tuple[str, ...] | None = None
    pack: Callable[[Any, PackedRows, Tensors], dict[str, Any]] | None = None


def family_of(folder: str) -> Family:
    """The family of a checkpoint folder.

    Raises:
        ConfigError: an unknown one; it says which file to write.
    """
    path = Path(folder) / "config.json"
    model_type = read_json(path, dict, ModelError).get("model_type")
    known = FAMILIES.names()
    if model_type not in known:
        raise ConfigError(
            f"to add it, write mllm/models/native/families/{str(model_type).replace('-', '_')}.py like its neighbours",
            where=str(path),
            field="model_type",
            expected=f"a family of type='hf', {', '.join(known)}",
            found=show(model_type),
        )
    return FAMILIES.find(model_type)()


def as_set(processor: Any, size: Size) -> Placement:
    """Where an image processor of CLIP's kind puts an image: resized as `size` says, then cropped if it crops."""
    target = processor.size
    if target.shortest_edge:
        placed = resize_short_side(size, target.shortest_edge)
    else:
        placed = resize(size, (target.width, target.height))
    check_canvas(size, placed.canvas)
    if not getattr(processor, "do_center_crop", False):
        return placed
    crop = processor.crop_size
    return placed.then(centre_crop(placed.canvas, (crop.width, crop.height)))


def _flat(features: Any) -> list[Tensor]:
    return [features] if isinstance(features, Tensor) else [tensor for part in features for tensor in _flat(part)]
