"""Llama 3.2 Vision: an image at the upper left of a canvas of tiles, to which the text attends in layers of its own.

Shape suffixes: B rows, T tokens, M images of a row, N tiles, K keys, D width.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel

from mllm.compat.transformers_placing import size_on_canvas
from mllm.geometry import Placement
from mllm.models.native.family import Family
from mllm.models.native.placing import Size, at_the_corner
from mllm.models.native.rows import pad_by_row, sees_group
from mllm.models.native.tensors import Tensors
from mllm.registry import FAMILIES

TOKEN = "<|image|>"


@FAMILIES.register_module("mllama")
def mllama() -> Family:
    """Boxes are spoken as Shikra writes them. A text sees the images that stand together before it.

    Source: Llama Team 2024 (arXiv 2407.21783), section 7; transformers' MllamaProcessor.
    """
    return Family(
        codec="shikra",
        token=TOKEN,
        place=_place,
        placeholder_tokens=_placeholder_tokens,
        pack=None,
        beside=None,
        more=_more,
        features=_features,
        prepare=_prepare,
    )


def _placeholder_tokens(config: PreTrainedConfig, processor: Any, size: Size) -> str:
    return TOKEN


def _place(processor: Any, size: Size) -> Placement:
    (height, width), (down, across) = size_on_canvas(processor, size[1], size[0])
    return at_the_corner(size, (width, height), (across, down))


def _more(model: Any, ids_BT: Tensor, labels_BT: Tensor | None, images: Tensors) -> dict[str, Tensor]:
    if not images:  # of an image that no token sees, where ranks must run the same layers
        images = {name: tensor[:0] for name, tensor in model.blank_image(ids_BT.device).items()}
    if not images:
        return {}
    marks_BT = ids_BT == model.image_token_id
    rows = {name: pad_by_row(tensor, marks_BT.sum(1)) for name, tensor in images.items()}
    tiles_BMN = rows["aspect_ratio_mask"]
    sees_BTM = sees_group(marks_BT).to(tiles_BMN)
    seen = {"cross_attention_mask": sees_BTM[..., None] * tiles_BMN[:, None]}
    tiles_BMN[..., 0] = 1  # also of images that only fill up a row: attention over nothing is no number
    return {**rows, **seen}


def _prepare(model: PreTrainedModel) -> None:
    """Each row is read as by itself: transformers 5.23 lets a token that sees no image look at all of the batch's.

    Alone, it looks at all images of its row, and a row without images passes by the layers that look at images.
    """
    text, vision = model.model.language_model, model.model.vision_model
    image = vision.max_num_tiles * vision.num_patches
    text.register_forward_pre_hook(partial(_look_at_own, image), with_kwargs=True)
    for number in text.cross_attention_layers:
        text.layers[number].register_forward_hook(_pass_by, with_kwargs=True)


def _look_at_own(image: int, text: Any, args: Any, arguments: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """`image`: keys of an image. Where a token sees none, the images that fill up its row are hidden."""
    hidden_B1TK, sees_B1T1 = (arguments.get(name) for name in ("cross_attention_mask", "full_text_row_masked_out_mask"))
    if hidden_B1TK is None or sees_B1T1 is None:
        return args, arguments
    open_B1TM = (hidden_B1TK == 0).unflatten(-1, (-1, image)).any(-1)
    own_BM = (open_B1TM & sees_B1T1.bool()).any(2).any(1)
    fills_BK = (~own_BM & own_BM.any(-1, keepdim=True)).repeat_interleave(image, -1)
    least = torch.finfo(hidden_B1TK.dtype).min
    return args, {**arguments, "cross_attention_mask": hidden_B1TK.masked_fill(fills_BK[:, None, None], least)}


def _pass_by(layer: Any, args: Any, arguments: dict[str, Any], states_BTD: Tensor) -> Tensor:
    sees_B1T1 = arguments.get("full_text_row_masked_out_mask")
    if sees_B1T1 is None:
        return states_BTD
    before_BTD = args[0] if args else arguments["hidden_states"]
    return torch.where(sees_B1T1[:, 0].bool().any(1, keepdim=True), states_BTD, before_BTD)


def _features(model: PreTrainedModel, images: Tensors) -> list[Tensor]:
    made = model.model.vision_model(**images).last_hidden_state
    return [model.model.multi_modal_projector(made)]
