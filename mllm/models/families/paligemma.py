"""PaliGemma 1 and 2: a picture stretched to a square; picture and question see one another, the answer looks back."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mllm.models.family import Family, Size, Tensors, as_set
from mllm.models.loss import IGNORE
from mllm.registry import FAMILIES

TOKEN = "<image>"


@FAMILIES.register_module("paligemma")
def paligemma() -> Family:
    """Source: Beyer et al. 2024 (arXiv 2407.07726)."""
    return Family(codec="paligemma", template="paligemma", token=TOKEN, place=as_set, slot=_slot, more=_more)


def _slot(config: Any, processor: Any, size: Size) -> str:
    vision = config.vision_config
    return TOKEN * (vision.image_size // vision.patch_size) ** 2


def _more(model: Any, ids_BT: Tensor, labels_BT: Tensor | None, pictures: Tensors) -> dict[str, Tensor]:
    """0 for what is seen from both sides, 1 from the answer on."""
    if labels_BT is None:
        return {"token_type_ids": torch.zeros_like(ids_BT)}
    return {"token_type_ids": ((labels_BT != IGNORE).cumsum(1) > 0).long()}
