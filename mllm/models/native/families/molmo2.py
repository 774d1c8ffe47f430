"""Molmo 2: an image stretched over overlapping crops, and as a whole before them; it answers with points."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from mllm.compat.transformers_placing import canvas_of_crops
from mllm.errors import ModelError
from mllm.geometry import Placement, resize
from mllm.models.native.family import Family
from mllm.models.native.placing import Size
from mllm.models.native.positions import PackedRows, with_images_apart
from mllm.models.native.tensors import Tensors, join_images
from mllm.models.runtime.packed_attention import mask_arguments
from mllm.registry import FAMILIES

POOLING = "image_token_pooling"
"""Of each token of an image, the numbers of the patches that it is made of; -1: none."""


@FAMILIES.register_module("molmo2")
def molmo2() -> Family:
    """Source: huggingface.co/allenai/Molmo2-8B, model card."""
    return Family(codec="molmo2", place=_place, join=_join, pack=_pack, opened=True)


def _place(processor: Any, size: Size) -> Placement:
    height, width = canvas_of_crops(processor, size[1], size[0])
    return resize(size, (width, height))


def _join(images: Sequence[Tensors]) -> dict[str, Tensor]:
    """Patches are numbered through a batch."""
    moved: list[Tensors] = []
    before = 0
    for image in images:
        numbers = image[POOLING]
        moved.append({**image, POOLING: torch.where(numbers >= 0, numbers + before, numbers)})
        crops, patches = image["pixel_values"].shape[:2]
        before += crops * patches
    return join_images(moved)


def _pack(model: Any, rows: PackedRows, images: Tensors) -> dict[str, object]:
    """The tokens of an image see one another.

    Raises:
        ModelError: a sample has several images, which would see one another too.
    """
    marks_BT = model.image_marks(rows.ids_BT).bool() & (rows.segment_BT >= 0)
    starts_BT = marks_BT.clone()
    starts_BT[:, 1:] &= ~marks_BT[:, :-1] | (rows.segment_BT.diff(dim=1) != 0)
    for starts_T, segment_T in zip(starts_BT, rows.segment_BT, strict=True):
        if starts_T.any() and int(torch.bincount(segment_T[starts_T]).max()) > 1:
            raise ModelError(
                "packing: the images of a sample see one another in molmo2: "
                "set data_args.collator_kwargs.packing to 'none'"
            )
    return {"position_ids": rows.position_BT, **mask_arguments(with_images_apart(rows, marks_BT))}
