"""LLaVA and LLaVA-NeXT as transformers saves them, under the names of today and of the years before."""

from __future__ import annotations

from typing import Any

from transformers import MODEL_FOR_CAUSAL_LM_MAPPING

from mllm.errors import ModelError
from mllm.models.auto import read_config
from mllm.models.checkpoints.layout import BaseModels, Checkpoint, ModelPlan
from mllm.models.checkpoints.lazy import Weights
from mllm.models.checkpoints.weight_sources import config_of, rename
from mllm.models.language_models import layers_name
from mllm.models.llava.model import MllmLlavaConfig
from mllm.models.llava.transformers_layout import LINEAR, THEIRS, check_identity, check_variant, of_transformers
from mllm.registry import LAYOUTS

RULES = (
    (r"^(model\.)?vision_tower\.(vision_model\.)?", "vision_tower.encoder."),
    (r"^(model\.)?multi_modal_projector\.linear_1\.", "connector.layers.0."),
    (r"^(model\.)?multi_modal_projector\.linear_2\.", "connector.layers.2."),
    (r"^(model\.)?image_newline$", "mosaic.newline"),
    (r"^lm_head\.", "language_model.lm_head."),
)
SECOND_LINEAR = ("connector.layers.2.weight", "connector.layers.2.bias")
"""Of a projector without an activation: an identity."""
SOURCE = "transformers 5.23, models/llava, models/llava_next, conversion_mapping.py"


def renamed_weights(opened: Checkpoint) -> Weights:
    """Our names; those of the language model's inside depend on its family."""
    text = opened.config.get("text_config") or {}
    config = config_of(text.get("model_type", "llama"), {}, opened.path)
    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        raise ModelError(
            where=opened.path, field="text_config", expected="a causal language model", found=f"a {config.model_type}"
        )
    inside = f"language_model.{layers_name(config)}."
    found = rename(opened.weights, (*RULES, (r"^(model\.language_model|language_model\.model)\.", inside)))
    if opened.config.get("projector_hidden_act") != LINEAR:
        return found
    second = {name: found.pop(name) for name in SECOND_LINEAR if name in found}
    if len(second) == len(SECOND_LINEAR):
        check_identity(opened.path, *(lazy.read() for lazy in second.values()))
    return {name.replace("connector.layers.0.", "connector.layer."): lazy for name, lazy in found.items()}


@LAYOUTS.register_module("transformers-llava")
class TransformersLlava:
    about = "a LLaVA or LLaVA-NeXT of transformers (llava-hf)"
    source = SOURCE

    def fits(self, opened: Checkpoint) -> bool:
        return opened.model_type in THEIRS and "text_config" in opened.config

    def named(self, opened: Checkpoint) -> Weights:
        return renamed_weights(opened)

    def absent(self, opened: Checkpoint) -> dict[str, str]:
        return {}

    def plan(self, opened: Checkpoint, sources: BaseModels) -> ModelPlan:
        sources.refuse(opened, "base", "vision_tower", "tuning_config")
        settings: Any = read_config(opened.path)
        check_variant(opened.path, settings)
        config = MllmLlavaConfig(
            vision_config=settings.vision_config,
            text_config=settings.text_config,
            **of_transformers(opened.path, settings),
        )
        return ModelPlan(config=config, weights=renamed_weights(opened), kind="llava", folders=(opened.path,))
