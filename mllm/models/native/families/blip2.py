"""BLIP-2 and InstructBLIP: an image stretched to a square, and a few queries of it before the text."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from mllm.models.native.family import Family, image_features
from mllm.models.native.tensors import Tensors
from mllm.models.runtime.loss import IGNORE_INDEX
from mllm.registry import FAMILIES


@FAMILIES.register_module("blip-2")
def blip2() -> Family:
    """Trained on no boxes: they are spoken as Shikra writes them.

    Source: Li et al. 2023 (arXiv 2301.12597).
    """
    return Family(codec="shikra", template="blip2", beside=None, more=_more)


@FAMILIES.register_module("instructblip")
def instructblip() -> Family:
    """As BLIP-2, and the queries read the prompt: so no two prompts share an image.

    Source: Dai et al. 2023 (arXiv 2305.06500).
    """
    return Family(
        codec="shikra", template="blip2", pack=None, beside=None, more=_more_of_prompts, features=_features_of_prompts
    )


def _more(model: PreTrainedModel, ids_BT: Tensor, labels_BT: Tensor | None, images: Tensors) -> dict[str, Tensor]:
    """It cannot do without an image, but with one that no token stands for."""
    if images:
        return {}
    side = model.config.vision_config.image_size
    return {"pixel_values": torch.zeros(1, 3, side, side, device=ids_BT.device, dtype=model.dtype)}


def _more_of_prompts(model: Any, ids_BT: Tensor, labels_BT: Tensor | None, images: Tensors) -> dict[str, Tensor]:
    """The words of each prompt, in the tokens of the Q-Former."""
    prompt_BT = torch.ones_like(ids_BT).bool() if labels_BT is None else labels_BT == IGNORE_INDEX
    shown_B = (ids_BT == model.image_token_id).any(1)
    processor = model.view.processor
    texts = [
        processor.tokenizer.decode(ids[prompt], skip_special_tokens=True, clean_up_tokenization_spaces=False).strip()
        for ids, prompt in zip(ids_BT[shown_B], prompt_BT[shown_B], strict=True)
    ]
    if not texts:
        return {**_more(model, ids_BT, labels_BT, images), **_no_words(ids_BT.device)}
    found = processor.qformer_tokenizer(texts, padding=True, return_tensors="pt").to(ids_BT.device)
    words = {f"qformer_{name}": found[name] for name in ("input_ids", "attention_mask")}
    return {**_more(model, ids_BT, labels_BT, images), **words}


def _no_words(device: torch.device) -> dict[str, Tensor]:
    """A token, so that all of the Q-Former runs."""
    one = torch.ones(1, 1, dtype=torch.long, device=device)
    return {"qformer_input_ids": torch.zeros_like(one), "qformer_attention_mask": one}


def _features_of_prompts(model: PreTrainedModel, images: Tensors) -> list[Tensor]:
    none = torch.zeros(len(images["pixel_values"]), 1, dtype=torch.long, device=images["pixel_values"].device)
    return image_features(model, {**images, "qformer_input_ids": none})
