"""Kosmos-2: an image stretched to a square and resampled to a few latents, which take the place of tokens."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import Kosmos2ForConditionalGeneration, Kosmos2Model, PreTrainedConfig

from mllm.models.native.family import Family
from mllm.models.native.placing import Size
from mllm.models.native.positions import PackedRows
from mllm.models.native.tensors import Tensors
from mllm.registry import FAMILIES

TOKEN = "<image>"
"""Opens an image, and fills the places of its latents: Kosmos-2 has no token of its own for them."""


@FAMILIES.register_module("kosmos-2")
def kosmos2() -> Family:
    """Source: Peng et al. 2023 (arXiv 2306.14824)."""
    return Family(
        codec="kosmos2",
        template="kosmos2",
        token=TOKEN,
        placeholder_tokens=_placeholder_tokens,
        beside=None,
        more=_more,
        features=_features,
        sees_first=True,
        prepare=_prepare,
        pack=_pack,
    )


def _placeholder_tokens(config: PreTrainedConfig, processor: Any, size: Size) -> str:
    return TOKEN * (1 + config.latent_query_num) + "</image>"


def _more(model: Any, ids_BT: Tensor, labels_BT: Tensor | None, images: Tensors) -> dict[str, Tensor]:
    marks_BT = ids_BT == model.image_token_id
    opened_BT = torch.zeros_like(marks_BT)
    opened_BT[:, 1:] = marks_BT[:, 1:] & marks_BT[:, :-1]
    if images:
        return {"image_embeds_position_mask": opened_BT}
    # it cannot do without images, but with none of them
    config = model.config
    none = torch.zeros(0, config.latent_query_num, config.text_config.embed_dim, device=ids_BT.device)
    return {"image_embeds_position_mask": opened_BT, "image_embeds": none}


def _features(model: Any, images: Tensors) -> list[Tensor]:
    made: Any = Kosmos2Model.get_image_features(model, images["pixel_values"])
    return [made.pooler_output]


def _prepare(model: Kosmos2ForConditionalGeneration) -> None:
    """transformers counts padding on the left as positions in all steps of generation but the first."""
    model.text_model.model.register_forward_pre_hook(_number_positions, with_kwargs=True)


def _number_positions(text: Any, args: Any, arguments: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    ids_BT, mask_BT = arguments.get("input_ids"), arguments.get("attention_mask")
    if ids_BT is None or mask_BT is None or arguments.get("position_ids") is not None:
        return args, arguments
    places_BT = mask_BT.long().cumsum(1) * mask_BT.long() + text.config.pad_token_id
    return args, {**arguments, "position_ids": places_BT[:, -ids_BT.shape[1] :]}


def _pack(model: Any, rows: PackedRows, images: Tensors) -> dict[str, object]:
    position_BT = rows.position_BT + model.text_model.config.pad_token_id + 1
    spans = rows.spans
    spans.over_masks = True  # it makes a causal mask, which nothing reads
    return {"position_ids": position_BT, "spans": spans}
