"""Reads LLaVA folders, our own and those of transformers; `transformers_export.py` writes the latter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaNextConfig,
    LlavaNextForConditionalGeneration,
    PreTrainedConfig,
    PreTrainedModel,
)

from mllm.compat.transformers_models import attention_of, experts_of
from mllm.errors import ModelError
from mllm.fields import show
from mllm.files import read_json
from mllm.models.adapters.injection import require_whole_model
from mllm.models.auto import read_config, read_generation_config
from mllm.models.components import image_statistics
from mllm.models.language_models import layers_name
from mllm.models.llava.model import Llava, MllmLlavaConfig
from mllm.models.meta_device import without_storage
from mllm.models.runtime.quantization import finalise_quantization, quantized_loading
from mllm.models.strict_loading import load_strictly
from mllm.models.vision.encoder import VisionTower

NEUTRAL: dict[str, tuple[object, ...]] = {
    "final_logit_softcapping": (None,),
    "logits_soft_cap": (None,),
    "logit_scale": (None, 1.0),
    "logits_scaling": (None, 1.0),
    "lm_head_multiplier": (None, 1.0),
    "logits_mup_width_multiplier": (None, 1.0),
    "unpadded_vocab_size": (None,),
}
"""What some language models do to the logits and transformers' LLaVA leaves out, with the values that do nothing."""
LINEAR = "linear"
"""The activation of transformers that changes nothing."""
THEIRS: dict[str, Any] = {
    LlavaConfig.model_type: LlavaForConditionalGeneration,
    LlavaNextConfig.model_type: LlavaNextForConditionalGeneration,
}


def load_llava(
    folder: str,
    *,
    dtype: Any = "auto",
    attn_implementation: str | None = None,
    quantization: Mapping[str, object] | None = None,
) -> Llava:
    """The model in a local folder, ours or transformers' LLaVA or LLaVA-NeXT, told apart by its config.json.

    Raises:
        ModelError: no such folder, another kind of model, or tensors that do not fit it, which are all listed.
    """
    path = Path(require_whole_model(folder)) / "config.json"
    settings = read_json(path, dict, ModelError)
    model_type = settings.get("model_type")
    if "mm_vision_tower" in settings:
        raise ModelError(
            f"run mllm checkpoint convert {folder} OUT_DIR first",
            where=folder,
            expected="a LLaVA in the layout of mllm or transformers",
            found="one in the original layout",
        )
    loading: dict[str, Any] = {"dtype": dtype, "attn_implementation": attn_implementation, "quantization": quantization}
    if model_type == MllmLlavaConfig.model_type:
        return _load_own(folder, **loading)
    if model_type in THEIRS:
        return load_transformers_llava(folder, **loading)
    known = " or ".join(f"'{name}'" for name in (MllmLlavaConfig.model_type, *THEIRS))
    raise ModelError(where=str(path), field="model_type", expected=known, found=show(model_type))


def load_transformers_llava(
    folder: str,
    *,
    dtype: Any = "auto",
    attn_implementation: str | None = None,
    quantization: Mapping[str, Any] | None = None,
) -> Llava:
    """transformers' LLaVA or LLaVA-NeXT as ours; the weights are taken over, not copied.

    Raises:
        ModelError: tensors that do not fit, or a variant of LLaVA that is not supported.
    """
    settings: Any = read_config(folder)
    check_variant(folder, settings)
    model_class = THEIRS[settings.model_type]
    loading: dict[str, Any] = {"dtype": dtype, "attn_implementation": attn_implementation}
    if quantization:
        loading |= quantized_loading(quantization, lambda: model_class(settings))
    source = load_strictly(model_class, folder, whole=True, **loading)
    encoder = source.model.vision_tower
    language_model = _with_head(source.model.language_model, source.lm_head)
    language_model.generation_config = source.generation_config
    finalise_quantization(source, language_model, quantization)
    config = compose([encoder], language_model, **of_transformers(folder, settings))
    model = Llava(config, vision_encoders=[encoder], language_model=language_model)
    assert isinstance(model.vision_tower, VisionTower), "one encoder makes one tower"
    if settings.vision_feature_select_strategy == "default" and model.vision_tower.prefix != 1:
        raise ModelError(
            where=folder,
            field="vision_feature_select_strategy",
            expected="one token before the patches for 'default', which leaves out one",
            found=str(model.vision_tower.prefix),
        )
    if model.mosaic is not None:
        if settings.vision_feature_select_strategy == "full" and model.vision_tower.prefix:
            raise ModelError(
                where=folder,
                field="vision_feature_select_strategy",
                expected="'default', as features with CLS make no grid",
                found="'full'",
            )
        model.mosaic.newline = source.model.image_newline
    projector = source.model.multi_modal_projector
    if settings.projector_hidden_act == LINEAR:
        check_identity(folder, projector.linear_2.weight, projector.linear_2.bias)
        model.connector.layer = projector.linear_1
    else:
        model.connector.layers[0], model.connector.layers[2] = projector.linear_1, projector.linear_2
    return model.eval()


def of_transformers(folder: str, settings: Any) -> dict[str, Any]:
    """What of `MllmLlavaConfig` the config of transformers' LLaVA or LLaVA-NeXT says, beside the two models."""
    pinpoints = getattr(settings, "image_grid_pinpoints", None)
    mean, std = image_statistics(folder, settings.vision_config)
    return {
        "connector": {"type": "linear" if settings.projector_hidden_act == LINEAR else "mlp2x_gelu"},
        "feature_layer": settings.vision_feature_layer,
        "keep_cls": settings.vision_feature_select_strategy == "full" and not pinpoints,
        "tiling": {"type": "any_resolution", "pinpoints": pinpoints} if pinpoints else None,
        "image_token_id": settings.image_token_id,
        "image_mean": mean,
        "image_std": std,
    }


def compose(encoders: Sequence[PreTrainedModel], language_model: PreTrainedModel, **rest: object) -> MllmLlavaConfig:
    """The config of a model made of these parts; it shares theirs."""
    parts = {"text_config": language_model.config}
    for name, encoder in zip(("vision_config", "second_vision_config"), encoders, strict=False):
        parts[name] = encoder.config
    # a new composite config resets these choices of its parts, unless it is told them
    attention = {name: attention_of(config) for name, config in parts.items()}
    experts = {name: experts_of(config) for name, config in parts.items()}
    choices: dict[str, Any] = {"attn_implementation": attention, "experts_implementation": experts}
    return MllmLlavaConfig(**parts, **rest, **choices)


def _load_own(folder: str, *, quantization: Mapping[str, object] | None, **loading: object) -> Llava:
    if quantization:
        config = read_config(folder)
        loading |= quantized_loading(quantization, lambda: Llava(config))
    model: Llava = load_strictly(Llava, folder, whole=True, **loading)
    finalise_quantization(model, model.language_model, quantization)
    model.generation_config = read_generation_config(folder) or model.generation_config
    return model


def _with_head(base: PreTrainedModel, head: nn.Module) -> Any:
    """The causal language model around its own base and head, without storage of its own."""
    # the checkpoint may hold two matrices where its config speaks of one, and the other way round
    base.config.tie_word_embeddings = head.weight is base.get_input_embeddings().weight
    model_class: Any = MODEL_FOR_CAUSAL_LM_MAPPING[type(base.config)]
    with torch.device("meta"):
        language_model = model_class(base.config)
    setattr(language_model, layers_name(base.config), base)
    language_model.set_output_embeddings(head)
    left = [name for name, tensor in language_model.state_dict().items() if tensor.is_meta]
    if left and not without_storage():
        raise ModelError(f"{type(language_model).__name__} has weights that a LLaVA folder cannot hold: {left}")
    return language_model.eval()


def check_variant(folder: str, config: PreTrainedConfig) -> None:
    expected = {"projector_hidden_act": ("gelu", LINEAR), "multimodal_projector_bias": (True,)}
    for name, values in expected.items():
        if (found := getattr(config, name)) not in values:
            known = " or ".join(map(repr, values))
            raise ModelError(where=str(Path(folder, "config.json")), field=name, expected=known, found=show(found))
    check_logits(config.get_text_config())


def check_identity(folder: str, weight: Tensor, bias: Tensor) -> None:
    """The second layer of a projector without an activation, which changes nothing in what is written here.

    Raises:
        ModelError: it changes something: the two layers are not one of ours.
    """
    if not weight.is_meta and (bias.any() or not torch.equal(weight, torch.eye(len(weight)).to(weight))):
        raise ModelError(
            "its projector has two linear layers and no activation between them; only an identity is supported as the "
            "second",
            where=folder,
        )


def check_logits(config: PreTrainedConfig) -> None:
    """
    Raises:
        ModelError: transformers' LLaVA would leave out what this language model does to its logits.
    """
    for name, values in NEUTRAL.items():
        if getattr(config, name, None) not in values:
            raise ModelError(
                f"{config.model_type}: transformers' LLaVA leaves out its {name} ({getattr(config, name)}): "
                "the logits would differ"
            )
