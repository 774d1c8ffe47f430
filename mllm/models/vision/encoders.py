"""Vision encoders of transformers: the class of a config, the vision half of a larger model, and the pixels it takes.

Shape suffixes: M images, C channels, H height, W width, P patches, V values of a patch.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from math import isqrt
from typing import Any

import torch
from torch import Tensor
from transformers import MODEL_FOR_BACKBONE_MAPPING, MODEL_MAPPING, AutoModel, PreTrainedConfig, PreTrainedModel

from mllm.compat.transformers_models import from_config
from mllm.errors import ConfigError, ModelError, one_line
from mllm.models.auto import build

_OWN_PROCESSOR = "belongs to a model with its own image processor: use that model with type='hf'"
_VIDEOS = "reads videos, not images"
NO_TOWERS = {
    "vit_mae": "hides most of an image and shuffles the rest; load its weights as 'vit'",
    "yolos": "puts its detection tokens after the patches",
    "groupvit_vision_model": "gives groups of patches, which have no position in the image",
    **dict.fromkeys(("lw_detr_vit", "rf_detr_dinov2"), "cuts images into windows, and gives these one after the other"),
    "imagegpt": "reads the numbers of colours, not pixels",
    "perceiver": "reads pixels only through its own preprocessor",
    "depth_pro": "reads an image at several sizes and gives depths",
    **dict.fromkeys(("timesformer", "videomae", "vivit", "videoprism_vision_model"), _VIDEOS),
    **dict.fromkeys(("idefics3_vision", "smolvlm_vision", "phi4_multimodal_vision", "molmo2_vision"), _OWN_PROCESSOR),
    **dict.fromkeys(("minicpm_ocr_vision", "minicpmv4_6_vision", "minicpmv4_7_vision"), _OWN_PROCESSOR),
    "paddleocr_vl_vision": _OWN_PROCESSOR,
}
"""Encoders that do not give features of the places of an image, with the reason."""
REFUSALS = (ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)
"""What encoders raise where they do not take a config, or images of this kind or size."""
VISION_PREFIX = r"^(model\.)?(vision_model|vision_tower)\.(vision_model\.)?"
"""Before the names of a vision encoder's weights in the folder of a model that holds more."""


def vision_half(config: PreTrainedConfig) -> PreTrainedConfig:
    """The config of the vision encoder: of a text-image model its vision half.

    Raises:
        ConfigError: the model has no vision half.
    """
    half = getattr(config, "vision_config", config)
    if not isinstance(half, PreTrainedConfig):
        raise ConfigError(
            field="vision_tower", expected="a model with a vision_config", found=f"a {config.model_type} without one"
        )
    return half


def encoder_class(config: PreTrainedConfig) -> Any:
    """The model class, or auto class, that builds and loads the vision encoder of a config.

    `AutoModel` does not know the vision halves of some text-image models (BLIP, AltCLIP, MetaCLIP 2), nor backbones
    that are no models of their own: those are looked up beside their config.

    Raises:
        ConfigError: transformers has no vision encoder of this config, or one that cannot be a vision tower.
    """
    kind = config.model_type
    if kind in NO_TOWERS:
        raise ConfigError(f"vision_tower: {kind} {NO_TOWERS[kind]}")
    if type(config) in MODEL_MAPPING:
        made: Any = MODEL_MAPPING[type(config)]
        reads_tokens = getattr(made, "main_input_name", "") == "input_ids" and "image" not in made.input_modalities
        if reads_tokens and hasattr(config, "vocab_size"):  # some vision encoders do not say what they read
            raise ConfigError(
                field="vision_tower", expected="a vision encoder", found=f"{kind}, which reads tokens, not pixels"
            )
        return AutoModel
    if type(config) in MODEL_FOR_BACKBONE_MAPPING:
        return MODEL_FOR_BACKBONE_MAPPING[type(config)]
    module = type(config).__module__.replace(".configuration_", ".modeling_")
    found = [
        each
        for each in (vars(import_module(module)).values() if find_spec(module) else ())
        if isinstance(each, type) and issubclass(each, PreTrainedModel) and each.__name__.endswith("VisionModel")
        if each.config_class is type(config) and each.main_input_name == "pixel_values"
    ]
    if len(found) != 1:
        raise ConfigError(f"vision_tower: {kind} is not a vision encoder of transformers that takes images")
    return found[0]


def new_encoder(config: Any, **chosen: Any) -> PreTrainedModel:
    """A vision encoder with random weights; `chosen` may hold `dtype` and `attn_implementation`.

    Raises:
        ConfigError: see `encoder_class`; or the encoder needs a library that is not installed.
    """
    kind = encoder_class(config)
    try:
        return build(kind, config, **chosen) if kind is AutoModel else from_config(kind, config, **chosen)
    except ImportError as error:
        raise missing_library(config.model_type, error, "vision_tower") from error
    except REFUSALS as error:
        raise ConfigError(f"vision_tower: {config.model_type} refuses its config: {one_line(error)}") from error


def native_size(config: PreTrainedConfig) -> int | None:
    """Side in pixels of the square images that an encoder was made for; None: it takes any.

    Raises:
        ModelError: the images it was made for are not square.
    """
    if config.model_type == "siglip2_vision_model":
        return isqrt(config.num_patches) * config.patch_size
    size = getattr(config, "image_size", None)
    return None if size is None else square(size)


def square(size: int | list[int] | tuple[int, int]) -> int:
    if isinstance(size, int):
        return size
    height, width = size
    if height != width:
        raise ModelError(expected="a vision encoder of square images", found=f"one of {width} x {height} pixels")
    return width


def encoder_inputs(config: PreTrainedConfig, pixels_MCHW: Tensor) -> dict[str, Tensor | None]:
    """The encoder's arguments for square images."""
    make = _INPUTS.get(config.model_type)
    return {"pixel_values": pixels_MCHW} if make is None else make(config, pixels_MCHW)


def reads_pixels(config: PreTrainedConfig) -> bool:
    """Whether an encoder reads images as they are, and nothing beside them."""
    return config.model_type not in _INPUTS


def check_inputs(encoder: PreTrainedModel) -> None:
    """
    Raises:
        ConfigError: the encoder needs more than the pixels of images.
    """
    if not reads_pixels(encoder.config):
        return
    for name, parameter in inspect.signature(encoder.forward).parameters.items():
        needed = parameter.default is parameter.empty and parameter.kind is parameter.POSITIONAL_OR_KEYWORD
        if needed and name != "pixel_values":
            raise ConfigError(f"vision_tower: {encoder.config.model_type} {_OWN_PROCESSOR}")


def missing_library(model_type: str, error: ImportError, argument: str = "") -> ConfigError:
    """What to raise where transformers lacks a library that a model needs."""
    needed = one_line(error).partition(". ")[0]
    if "FlashAttention" in needed:
        return ConfigError(f"needs a library that is missing: {needed}", field="attn_implementation")
    return ConfigError(f"{model_type} needs a library that is missing: {needed}", field=argument)


def _siglip2(config: PreTrainedConfig, pixels_MCHW: Tensor) -> dict[str, Tensor | None]:
    """SigLIP 2 of any aspect ratio (NaFlex) reads rows of patches, each patch row by row with its colours together.

    Source: transformers 5.23, models/siglip2/image_processing_siglip2.py, convert_image_to_patches.
    """
    side = config.patch_size
    grid = pixels_MCHW.shape[-1] // side
    patches_MPV = (
        pixels_MCHW.unfold(2, side, side).unfold(3, side, side).permute(0, 2, 3, 4, 5, 1).flatten(3).flatten(1, 2)
    )
    # read as numbers, so that another device would be waited for
    shapes_M2 = torch.full((len(patches_MPV), 2), grid, device="cpu")
    return {"pixel_values": patches_MPV, "pixel_attention_mask": None, "spatial_shapes": shapes_M2}


_INPUTS: dict[str, Callable[[Any, Tensor], dict[str, Tensor | None]]] = {"siglip2_vision_model": _siglip2}
