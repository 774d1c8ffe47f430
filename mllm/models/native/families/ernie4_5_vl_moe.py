"""ERNIE 4.5 VL: images of any size, resized to whole patches with their aspect kept."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mllm.models.native.family import Family, image_marks
from mllm.models.native.tensors import Tensors
from mllm.registry import FAMILIES


@FAMILIES.register_module("ernie4_5_vl_moe")
def ernie4_5_vl_moe() -> Family:
    """Boxes are spoken as Shikra writes them.

    Source: ernie.baidu.com/blog/publication/ERNIE_Technical_Report.pdf.
    """
    return Family(codec="shikra", more=_more, prepare=_prepare)


def _more(model: Any, ids_BT: Tensor, labels_BT: Tensor | None, images: Tensors) -> dict[str, Tensor]:
    """Experts for images read the tokens around an image, too."""
    asked = model.view.processor
    ids = [asked.image_token_id, asked.image_start_token_id, asked.image_end_token_id]
    read_BT = torch.isin(ids_BT, torch.tensor(ids, device=ids_BT.device)).long()
    return {**image_marks(model, ids_BT, labels_BT, images), "moe_mm_token_type_ids": read_BT}


def _prepare(model: Any) -> None:
    """In training the experts for images read a token without weight where a batch has no image: ranks keep in step."""
    for module in model.modules():
        if hasattr(module, "vision_moe"):
            module.register_forward_hook(_read_one)


def _read_one(block: Any, args: tuple[Tensor, Tensor | None], output: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    states_BTD, read_BT = args
    if not block.training or (read_BT is not None and read_BT.any()):
        return output
    spare, _ = block.vision_moe(states_BTD[:1, :1])
    return output[0] + 0 * spare.sum().to(output[0]), output[1]
