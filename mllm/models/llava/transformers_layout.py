"""LLaVA folders: our own, and those of transformers, which are read and written without loss."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_MAPPING,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaNextConfig,
    LlavaNextForConditionalGeneration,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from mllm.compat.transformers_models import attention_of, experts_of
from mllm.conversation.preprocessing.tiling import AnyResolution
from mllm.errors import ModelError
from mllm.fields import show
from mllm.files import read_json
from mllm.models.adapters.injection import whole_model
from mllm.models.auto import read_config, read_generation_config
from mllm.models.components import image_statistics, load_strictly
from mllm.models.connectors.identity import Identity
from mllm.models.connectors.linear import Linear
from mllm.models.connectors.mlp import Mlp
from mllm.models.language_models import cache_obstacle, layers_name
from mllm.models.llava.model import Llava, MllmLlavaConfig
from mllm.models.meta_device import without_storage
from mllm.models.runtime.quantization import finalise_quantization, quantized_loading
from mllm.models.vision.encoder import VisionTower
from mllm.models.vision.encoders import reads_pixels
from mllm.tokenizer_files import save_tokenizer
from mllm.types import IMAGE

NEUTRAL: dict[str, tuple[Any, ...]] = {
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
    quantization: Mapping[str, Any] | None = None,
) -> Llava:
    """The model in a local folder, ours or transformers' LLaVA or LLaVA-NeXT, told apart by its config.json.

    Raises:
        ModelError: no such folder, another kind of model, or tensors that do not fit it, which are all listed.
    """
    path = Path(whole_model(folder)) / "config.json"
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


def export_transformers_llava(model: Llava, tokenizer: PreTrainedTokenizerBase, folder: str) -> None:
    """Write a folder that transformers' LLaVA or LLaVA-NeXT and its processor read, to equal logits.

    Raises:
        ModelError: the model is one that this layout cannot hold.
    """
    theirs = as_transformers(model)
    theirs.save_pretrained(folder)
    save_tokenizer(tokenizer, folder)
    _write_processor(model, _exportable_tower(model), theirs.config, folder)


def as_transformers(model: Llava) -> Any:
    """The model as transformers' LLaVA or LLaVA-NeXT, whose modules are those of `model`.

    Raises:
        ModelError: the model is one that their class cannot hold.
    """
    language_model = model.language_model
    head: nn.Linear = language_model.get_output_embeddings()
    tower = _exportable_tower(model)
    _check_language_model(language_model, head)
    first, activation, second = _projector(model)
    same = head.weight is language_model.get_input_embeddings().weight
    layers = getattr(language_model, layers_name(language_model.config))
    tied = same and hasattr(layers, "embed_tokens")  # the name by which transformers' LLaVA ties
    text_config = copy.deepcopy(language_model.config)
    text_config.tie_word_embeddings = tied
    pinpoints = _exportable_pinpoints(model)
    config_class: Any = LlavaNextConfig if pinpoints else LlavaConfig
    config = config_class(
        vision_config=copy.deepcopy(tower.encoder.config),
        text_config=text_config,
        projector_hidden_act=activation,
        image_token_index=model.config.image_token_id,
        image_seq_length=tower.tokens,
        vision_feature_layer=tower.layers[0] if len(tower.layers) == 1 else list(tower.layers),
        vision_feature_select_strategy="full" if tower.keep_cls or tower.prefix == 0 else "default",
        tie_word_embeddings=tied,
        **({"image_grid_pinpoints": pinpoints} if pinpoints else {}),
    )
    with torch.device("meta"):
        target: Any = THEIRS[config.model_type](config)
    if model.mosaic is not None:
        target.model.image_newline = model.mosaic.newline
    target.model.vision_tower = tower.encoder
    target.model.multi_modal_projector.linear_1 = first
    target.model.multi_modal_projector.linear_2 = second
    target.model.language_model = layers
    target.lm_head = copy.deepcopy(head) if same and not tied else head
    target.generation_config = model.generation_config
    return target.eval()


def export_obstacle(model: Llava) -> str | None:
    """Why transformers' LLaVA cannot hold this model; None: it can."""
    try:
        _exportable_tower(model)
        _projector(model)
        _exportable_pinpoints(model)
        _check_language_model(model.language_model, model.language_model.get_output_embeddings())
    except ModelError as error:
        return error.reason
    return None


def compose(encoders: Sequence[PreTrainedModel], language_model: PreTrainedModel, **rest: Any) -> MllmLlavaConfig:
    """The config of a model made of these parts; it shares theirs."""
    parts = {"text_config": language_model.config}
    for name, encoder in zip(("vision_config", "second_vision_config"), encoders, strict=False):
        parts[name] = encoder.config
    # a new composite config resets these choices of its parts, unless it is told them
    attention = {name: attention_of(config) for name, config in parts.items()}
    experts = {name: experts_of(config) for name, config in parts.items()}
    choices: dict[str, Any] = {"attn_implementation": attention, "experts_implementation": experts}
    return MllmLlavaConfig(**parts, **rest, **choices)


def _load_own(folder: str, *, quantization: Mapping[str, Any] | None, **loading: Any) -> Llava:
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


def check_variant(folder: str, config: Any) -> None:
    expected = {"projector_hidden_act": ("gelu", LINEAR), "multimodal_projector_bias": (True,)}
    for name, values in expected.items():
        if (found := getattr(config, name)) not in values:
            known = " or ".join(map(repr, values))
            raise ModelError(where=str(Path(folder, "config.json")), field=name, expected=known, found=show(found))
    _check_logits(config.get_text_config())


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


def _exportable_tower(model: Llava) -> VisionTower:
    tower = model.vision_tower
    if not isinstance(tower, VisionTower):
        raise ModelError(expected="one vision tower for transformers' LLaVA", found="several")
    encoder: Any = tower.encoder.config
    if not tower.uniform or not reads_pixels(encoder):
        raise ModelError(
            expected="a vision tower with one grid of tokens for transformers' LLaVA", found=f"a {encoder.model_type}"
        )
    if type(encoder) not in MODEL_MAPPING:
        raise ModelError(
            expected="a vision tower that AutoModel knows for transformers' LLaVA", found=f"a {encoder.model_type}"
        )
    if tower.resized:
        raise ModelError(
            "transformers' LLaVA does not interpolate position embeddings",
            field="image_size",
            expected="the vision tower's own",
            found=str(tower.size),
        )
    if not tower.keep_cls and tower.prefix > 1:
        raise ModelError(
            expected="one token before the patches, which transformers' LLaVA leaves out", found=str(tower.prefix)
        )
    return tower


def _exportable_pinpoints(model: Llava) -> list[list[int]]:
    """Those of a model in tiles, none of one without."""
    tiling = model.tiling
    if tiling is None:
        return []
    if not isinstance(tiling, AnyResolution) or not (tiling.unpad and tiling.newline):
        raise ModelError(
            field="tiling",
            expected="'any_resolution' with unpad and newline for transformers' LLaVA-NeXT",
            found=str(model.config.tiling),
        )
    return [list(point) for point in tiling.pinpoints]


def _projector(model: Llava) -> tuple[nn.Linear, str, nn.Linear]:
    """The connector as transformers' LLaVA has it: linear layer, activation, linear layer.

    Of one linear layer, or none, the rest is an identity, through which numbers pass unchanged.
    """
    connector: Any = model.connector
    like: Any = model.get_input_embeddings().weight
    layers: Callable[[], list[Any]] | None = {
        Identity: lambda: [],
        Linear: lambda: [connector.layer],
        Mlp: lambda: list(connector.layers[::2]),
    }.get(type(connector))
    found = None if layers is None else layers()
    if found is None or len(found) > 2:
        raise ModelError(
            field="connector",
            expected="'mlp2x_gelu', 'linear' or 'identity' for transformers' LLaVA",
            found=str(model.config.connector),
        )
    if len(found) == 2:
        return found[0], "gelu", found[1]
    first, second = [*found, *(_identity(like) for _ in range(2 - len(found)))]
    return first, LINEAR, second


def _identity(like: Tensor) -> nn.Linear:
    """A layer that changes nothing, of the width, device and dtype of these embeddings."""
    width = like.shape[1]
    layer = nn.Linear(width, width, device=like.device, dtype=like.dtype)
    with torch.no_grad():
        nn.init.eye_(layer.weight)
        nn.init.zeros_(layer.bias)
    return layer


def _check_language_model(language_model: Any, head: nn.Linear) -> None:
    if head.bias is not None:
        raise ModelError(
            expected="a language modelling head without bias for transformers' LLaVA", found="one with bias"
        )
    if why := cache_obstacle(language_model):
        raise ModelError(f"transformers' LLaVA reads keys and values, but {why}")
    _check_embeddings(language_model, head)
    _check_logits(language_model.config)


def _check_embeddings(language_model: Any, head: nn.Linear) -> None:
    kind, embeddings = language_model.config.model_type, language_model.get_input_embeddings()
    if embeddings.embedding_dim != language_model.config.hidden_size:
        raise ModelError(
            where=kind,
            expected=f"embeddings as wide as the layers for transformers' LLaVA, {language_model.config.hidden_size}",
            found=str(embeddings.embedding_dim),
        )
    if kind == "youtu" and embeddings.padding_idx is not None and head.weight is embeddings.weight:
        raise ModelError(
            "youtu: transformers 5.23 sets the padding token's embedding, which the head shares, to zero as it reads a "
            "folder: the logits would differ"
        )


def _check_logits(config: PreTrainedConfig) -> None:
    for name, values in NEUTRAL.items():
        if getattr(config, name, None) not in values:
            raise ModelError(
                f"{config.model_type}: transformers' LLaVA leaves out its {name} ({getattr(config, name)}): "
                "the logits would differ"
            )


def _write_processor(model: Llava, tower: VisionTower, config: Any, folder: str) -> None:
    side = tower.size
    name = "LlavaNextProcessor" if model.tiling else "LlavaProcessor"
    preprocessor = {
        "image_processor_type": "LlavaNextImageProcessor" if model.tiling else "CLIPImageProcessor",
        "processor_class": name,
        "do_convert_rgb": True,
        "do_resize": True,
        "size": {"shortest_edge": side},
        "resample": 3,  # bicubic
        "do_center_crop": True,
        "crop_size": {"height": side, "width": side},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(model.config.image_mean),
        "image_std": list(model.config.image_std),
    }
    if model.tiling:
        preprocessor |= {"do_pad": True, "image_grid_pinpoints": config.image_grid_pinpoints}
    processor = {
        "processor_class": name,
        "image_token": IMAGE,
        "patch_size": tower.encoder.config.patch_size,
        "num_additional_image_tokens": tower.prefix,
        "vision_feature_select_strategy": config.vision_feature_select_strategy,
    }
    for file, value in (("preprocessor_config.json", preprocessor), ("processor_config.json", processor)):
        (Path(folder) / file).write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
