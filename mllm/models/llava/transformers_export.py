"""Our LLaVA as a folder, or as a model, of transformers' LLaVA or LLaVA-NeXT."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    MODEL_MAPPING,
    LlavaConfig,
    LlavaNextConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from mllm.conversation.preprocessing.tiling import AnyResolution
from mllm.errors import ModelError
from mllm.models.connectors.identity import Identity
from mllm.models.connectors.linear import Linear
from mllm.models.connectors.mlp import Mlp
from mllm.models.language_models import cache_obstacle, layers_name
from mllm.models.llava.model import Llava
from mllm.models.llava.transformers_layout import LINEAR, THEIRS, check_logits
from mllm.models.vision.encoder import VisionTower
from mllm.models.vision.encoders import reads_pixels
from mllm.tokenizer_saving import save_tokenizer
from mllm.types import IMAGE


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
    check_logits(language_model.config)


def _check_embeddings(language_model: PreTrainedModel, head: nn.Linear) -> None:
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


def _write_processor(model: Llava, tower: VisionTower, config: PreTrainedConfig, folder: str) -> None:
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
