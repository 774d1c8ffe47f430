"""The vision encoder and the language model that a model is made of: from a local folder, or from a config."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    GenerationConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.image_utils import (
    IMAGENET_DEFAULT_MEAN,
    IMAGENET_DEFAULT_STD,
    IMAGENET_STANDARD_MEAN,
    IMAGENET_STANDARD_STD,
    OPENAI_CLIP_MEAN,
    OPENAI_CLIP_STD,
)

from mllm.compat.transformers_models import attention_of
from mllm.errors import ConfigError, ModelError, one_line
from mllm.fields import in_field
from mllm.files import read_json
from mllm.generation_args import FRACTIONS, SAMPLING, with_fractions
from mllm.json_fields import field
from mllm.model_files import check_folder, how_to_get
from mllm.models.arguments import Deviation, Dtype, Mean, Spec, check_spec
from mllm.models.auto import build, read_config
from mllm.models.language_models import language_half, language_weight_patterns
from mllm.models.meta_device import without_storage
from mllm.models.runtime.quantization import finalise_quantization, quantized_loading
from mllm.models.strict_loading import load_strictly
from mllm.models.vision.encoders import (
    REFUSALS,
    VISION_PREFIX,
    encoder_class,
    missing_library,
    new_encoder,
    vision_half,
)

Statistics = tuple[Sequence[float], Sequence[float]]
TRIED_TOKENS = 4
"""Tokens that a new language model is tried on."""
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16, "auto": "auto"}
FAMILIES: dict[str, Statistics] = {
    "clip_vision_model": (OPENAI_CLIP_MEAN, OPENAI_CLIP_STD),
    **dict.fromkeys(
        ("altclip_vision_model", "blip_vision_model", "chinese_clip_vision_model", "metaclip_2_vision_model"),
        (OPENAI_CLIP_MEAN, OPENAI_CLIP_STD),
    ),
    "siglip_vision_model": (IMAGENET_STANDARD_MEAN, IMAGENET_STANDARD_STD),
    "siglip2_vision_model": (IMAGENET_STANDARD_MEAN, IMAGENET_STANDARD_STD),
    "dinov2": (IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD),
    "dinov2_with_registers": (IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD),
}
"""Mean and standard deviation of the pixels that a family of vision encoders was trained on."""


def vision_encoder(spec: Spec, *, dtype: torch.dtype, attn_implementation: str | None) -> PreTrainedModel:
    """A vision encoder; of a text-image model (CLIP, SigLIP, BLIP) the vision half.

    Raises:
        ConfigError: unknown `model_type`.
        ModelError: not a local folder, or one that misses weights.
    """
    if isinstance(spec, str):
        folder = local_folder("vision_tower", spec)
        whole = read_config(folder)
        config = vision_half(whole)
        made = encoder_class(config)
        names: dict[str, Any] = {} if config is whole else {"key_mapping": {VISION_PREFIX: ""}}
        chosen = {"dtype": dtype, "attn_implementation": attn_implementation}
        return load_strictly(made, folder, config=config, **chosen, **names)
    config = vision_half(_config("vision_tower", spec))
    return new_encoder(config, **_from_config(dtype, attn_implementation))


def load_causal_lm(
    spec: Spec,
    tokenizer: PreTrainedTokenizerBase,
    *,
    dtype: torch.dtype,
    attn_implementation: str | None,
    quantization: Mapping[str, object] | None = None,
) -> PreTrainedModel:
    """A causal language model, see `text_model`; of a folder of a larger model its language model.

    Raises:
        ConfigError: none that images can be put before, see `language_half`.
    """
    return text_model(
        AutoModelForCausalLM,
        spec,
        tokenizer,
        dtype=dtype,
        attn_implementation=attn_implementation,
        quantization=quantization,
        half=language_half,
    )


def text_model(
    model_class: Any,
    spec: Spec,
    tokenizer: PreTrainedTokenizerBase,
    *,
    dtype: Any,
    attn_implementation: str | None,
    quantization: Mapping[str, Any] | None = None,
    half: Callable[[PreTrainedConfig], PreTrainedConfig] = lambda config: config,
) -> PreTrainedModel:
    """A language model of one of transformers' auto classes.

    A new one takes vocabulary size and special tokens from the tokenizer. `half`: the config of a language model ->
    itself, or the part of it to build; it raises ConfigError for one that does not fit.

    Raises:
        ConfigError: unknown `model_type`, or quantisation of random weights.
        ModelError: not a local folder, or one that misses weights.
    """
    if isinstance(spec, str):
        folder = local_folder("language_model", spec)
        whole = read_config(folder)
        config = half(whole)
        loading: dict[str, Any] = {"config": config, "dtype": dtype, "attn_implementation": attn_implementation}
        if config is not whole:
            loading["key_mapping"] = language_weight_patterns(config)
        if quantization:
            loading |= quantized_loading(quantization, lambda: build(model_class, config))
        model = load_strictly(model_class, folder, **loading)
        finalise_quantization(model, model, quantization)
        return model
    if quantization:
        raise ConfigError(
            "random weights cannot be quantised",
            field="language_model",
            expected="a folder, for quantization",
            found="a model from scratch",
        )
    config = _config(
        "language_model",
        spec,
        vocab_size=len(tokenizer),
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    heads, shared = (getattr(config, name, None) for name in ("num_attention_heads", "num_key_value_heads"))
    if isinstance(heads, int) and isinstance(shared, int) and (shared < 1 or heads % shared):
        raise ConfigError(
            field="language_model.num_key_value_heads",
            expected=f"a divisor of num_attention_heads, {heads}",
            found=f"{shared}" + ("" if "num_key_value_heads" in spec else f", the default of {config.model_type}"),
        )
    if half(config) is not config:
        raise ConfigError(
            f"language_model: {config.model_type} holds more than a language model; "
            f"give its language model alone, model_type {half(config).model_type!r}"
        )
    try:
        model = build(model_class, config, **_from_config(dtype, attn_implementation))
        _check_rotation(model)
        _try(model)
    except ImportError as error:
        raise missing_library(config.model_type, error, "language_model") from error
    except REFUSALS as error:
        raise ConfigError(f"language_model: {config.model_type} refuses its config: {one_line(error)}") from error
    return model


def _check_rotation(model: PreTrainedModel) -> None:
    """Rotary positions turn pairs of numbers; a head of one number would be widened to two by broadcasting.

    Raises:
        ConfigError: heads are too narrow.
    """
    config = model.config.get_text_config()
    width, heads = getattr(config, "head_dim", None), getattr(config, "num_attention_heads", None)
    if width is None and isinstance(heads, int):
        width = config.hidden_size // heads
    if width == 1 and any(name.endswith("inv_freq") for name, _ in model.named_buffers()):
        raise ConfigError(field="language_model.head_dim", expected="at least 2, for rotary positions", found="1")


@torch.no_grad()
def _try(model: PreTrainedModel) -> None:
    """Let a new language model read a few tokens: settings that contradict one another show now, not at a step."""
    if without_storage() or model.dtype == torch.float16 or attention_of(model.config) not in ("eager", "sdpa"):
        return  # what only a GPU computes
    ids = torch.zeros(1, TRIED_TOKENS, dtype=torch.long)
    model.eval()(input_ids=ids, **({"decoder_input_ids": ids} if model.config.is_encoder_decoder else {}))


def grow_vocabulary(language_model: Any, tokenizer: PreTrainedTokenizerBase, pad_to_multiple_of: int | None) -> None:
    """Give every token of the tokenizer an embedding; new rows start at the mean of the old ones."""
    known = language_model.get_input_embeddings().num_embeddings
    if len(tokenizer) <= known:
        return
    language_model.resize_token_embeddings(len(tokenizer), pad_to_multiple_of=pad_to_multiple_of, mean_resizing=False)
    # transformers would add noise to the mean: without it a base that is built again is the same base
    with torch.no_grad():
        for end in (language_model.get_input_embeddings(), language_model.get_output_embeddings()):
            for rows in end.parameters():
                rows[known:] = rows[:known].float().mean(0).to(rows)


def parts_missing(name: str, parts: Mapping[str, object]) -> ConfigError:
    """What is wrong with a model that names neither a folder nor both of its parts."""
    given = [part for part in ("vision_tower", "language_model") if parts[part] is not None]
    return ConfigError(
        field="model_args",
        expected=f"model_name_or_path, or both vision_tower and language_model, for {name}",
        found=f"{given[0]} alone" if given else "none of them",
    )


def refuse_parts(folder: str, parts: Mapping[str, object]) -> None:
    """
    Raises:
        ConfigError: parts are given beside a folder that already defines them.
    """
    doubled = [name for name, value in parts.items() if value is not None]
    if doubled:
        raise ConfigError(
            "remove one of the two",
            field="model_args",
            expected=f"no {', '.join(doubled)} beside model_name_or_path",
            found=f"{folder}, which defines {'it' if len(doubled) == 1 else 'them'} already",
        )


def finish(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    *,
    freeze: Sequence[str] = (),
    pad_to_multiple_of: int | None = None,
    **choices: Any,
) -> Any:
    """What every build ends with: embeddings for all tokens, special tokens, what is trained; evaluation mode.

    `choices`: further arguments of the model's `freeze`.

    Raises:
        ModelError: the tokenizer lacks a token that the model needs.
        ConfigError: `freeze` names an unknown part.
    """
    model.record_tokenizer(tokenizer)
    grow_vocabulary(model, tokenizer, pad_to_multiple_of)
    finalise_generation_config(model.generation_config, tokenizer)
    model.freeze(freeze, **choices)
    return model.eval()


def finalise_generation_config(config: GenerationConfig, tokenizer: PreTrainedTokenizerBase) -> None:
    """Fill in the special tokens that a checkpoint leaves open; drop sampling settings that it does not use."""
    if config.eos_token_id is None:
        config.eos_token_id = tokenizer.eos_token_id
    if config.pad_token_id is None:
        config.pad_token_id = tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id
    for name, value in with_fractions({name: getattr(config, name) for name in FRACTIONS}).items():
        setattr(config, name, value)
    if not config.do_sample:
        # some checkpoints hold a temperature without sampling, which transformers refuses to save again
        for name in SAMPLING:
            setattr(config, name, None)


def image_statistics(folder: str | None, config: PreTrainedConfig) -> Statistics:
    """Mean and standard deviation of pixels: what the folder's preprocessor says, else those of the encoder's family.

    Raises:
        ConfigError: neither is known.
    """
    for name in ("preprocessor_config.json", "processor_config.json"):
        path = Path(folder or "") / name
        if folder and path.is_file():
            found = read_json(path, dict, ModelError)
            at = "image_processor" if "image_processor" in found else ""
            found = field(found, at, dict, where=path, error=ModelError) if at else found
            if "image_mean" in found and "image_std" in found:
                mean, deviation = (
                    field(found, name, kind, at, where=path, error=ModelError)
                    for name, kind in (("image_mean", Mean), ("image_std", Deviation))
                )
                return mean, deviation
    if config.model_type not in FAMILIES:
        raise ConfigError(
            "set image_mean and image_std",
            field="vision_tower",
            expected="an encoder with known pixel statistics",
            found=f"a {config.model_type}",
        )
    return FAMILIES[config.model_type]


def torch_dtype(name: Dtype | None) -> Any:
    """What transformers takes for `dtype`; None is float32, in which an optimizer wants its weights."""
    return DTYPES[name or "float32"]


def local_folder(argument: str, path: str) -> str:
    """`path`, if it is a checkpoint folder on this machine.

    Raises:
        ModelError: it is not; nothing is looked up on a hub.
    """
    if not Path(path).is_dir():
        raise ModelError(how_to_get(path), field=argument, expected="a folder on this machine", found=path)
    if not (Path(path) / "config.json").is_file():
        raise ModelError(field=argument, expected="a folder with a config.json", found=f"{path}, which has none")
    check_folder(path)
    return path


def _config(argument: str, spec: Mapping[str, Any], **defaults: Any) -> PreTrainedConfig:
    in_field(argument, check_spec, spec)
    rest = dict(spec)
    model_type = rest.pop("model_type")
    try:
        return AutoConfig.for_model(model_type, **{**defaults, **rest})
    except ImportError as error:
        raise missing_library(model_type, error, argument) from error
    except (ArithmeticError, TypeError, ValueError, StrictDataclassError) as error:
        raise ConfigError(f"{model_type}: {one_line(error)}", field=argument) from error


def _from_config(dtype: torch.dtype, attn_implementation: str | None) -> dict[str, object]:
    """`from_config` reads an absent argument and None differently."""
    chosen: dict[str, Any] = {} if dtype == "auto" else {"dtype": dtype}
    return chosen if attn_implementation is None else {**chosen, "attn_implementation": attn_implementation}
