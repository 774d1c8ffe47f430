"""Idefics: an image stretched to a square, to which the text attends in layers between those of the language model."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel

from mllm.models.native.families.idefics2 import AROUND_IMAGE
from mllm.models.native.family import Family
from mllm.models.native.placing import Size
from mllm.models.native.rows import pad_by_row, sees_latest
from mllm.models.native.tensors import Tensors
from mllm.registry import FAMILIES

TOKEN = "<image>"


@FAMILIES.register_module("idefics")
def idefics() -> Family:
    """Boxes are spoken as Shikra writes them. A text sees the last image before it.

    Source: Laurencon et al. 2023 (arXiv 2306.16527); transformers' IdeficsProcessor.
    """
    return Family(
        codec="shikra",
        token=TOKEN,
        between=AROUND_IMAGE,
        placeholder_tokens=_placeholder_tokens,
        pack=None,
        beside=None,
        more=_more,
        features=_features,
    )


def _placeholder_tokens(config: PreTrainedConfig, processor: Any, size: Size) -> str:
    return TOKEN


def _more(model: Any, ids_BT: Tensor, labels_BT: Tensor | None, images: Tensors) -> dict[str, Tensor]:
    """It cannot do without an image: rows that have none get one that no token sees."""
    marks_BT = ids_BT == model.image_token_id
    side = model.config.vision_config.image_size
    none = torch.zeros(len(ids_BT), 1, 3, side, side, device=ids_BT.device, dtype=model.dtype)
    pixels = pad_by_row(images["pixel_values"][:, None], marks_BT.sum(1)) if images else none
    return {"pixel_values": pixels, "image_attention_mask": sees_latest(marks_BT).long()}


def _features(model: PreTrainedModel, images: Tensors) -> list[Tensor]:
    made: Tensor = model.model.vision_model(pixel_values=images["pixel_values"]).last_hidden_state
    return [model.model.perceiver_resampler(made) if model.config.use_resampler else made]
