"""`model_args` of type "hf" -> a vision language model of transformers, in its own folder layout."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, Literal

import torch
from PIL import Image
from PIL.Image import Resampling
from transformers import (
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING,
    PreTrainedTokenizerBase,
)

from mllm.compat.transformers_models import attention_of
from mllm.compat.transformers_processors import make_transformers_processor, processor_class
from mllm.errors import ConfigError, MllmError, ModelError, nearest, one_line
from mllm.fields import OneOf, PathName, PositiveInt, check, in_field, show
from mllm.files import read_json, read_text
from mllm.images.resolution import BOUNDS, Resolution
from mllm.model_files import check_settings, reading_model_files
from mllm.models.adapters.injection import require_whole_model
from mllm.models.arguments import Attention, Deviation, Dtype, Mean, RowMultiple
from mllm.models.auto import PROCESSORS, read_config, read_image_processor
from mllm.models.components import finish, torch_dtype
from mllm.models.meta_device import without_storage
from mllm.models.native.encoder_decoder import NativeEncoderDecoder
from mllm.models.native.family import Family, family_of
from mllm.models.native.model import Native, native_class, override_settings
from mllm.models.native.proof import prove_or_refuse
from mllm.models.native.resolution import settings_for
from mllm.models.native.view import ProcessorView, first_token
from mllm.models.runtime.packed_attention import FLEX, PACKED
from mllm.models.runtime.quantization import QuantizationConfig, finalise_quantization, quantized_loading
from mllm.models.strict_loading import load_strictly
from mllm.models.vision.encoders import REFUSALS
from mllm.registry import MODELS
from mllm.tokenizer_files import token_id

TRIED_SIZE = (96, 64)
"""Size in pixels of an image that changed settings are tried on."""
SHAPES = ("patch_size", "temporal_patch_size", "merge_size")
"""Settings that follow from the shapes of the model's weights."""
KINDS: Mapping[str, Any] = {
    "image_mean": Mean,
    "image_std": Deviation,
    "resample": Annotated[int, OneOf(tuple(sorted(filter.value for filter in Resampling)))],
}
"""Settings whose values the processor's own do not tell."""


@MODELS.register_module("hf")
def hf(
    *,
    tokenizer: PreTrainedTokenizerBase,
    model_name_or_path: PathName,
    image_processor: Mapping[str, object] | None = None,
    freeze: Sequence[Literal["vision_tower", "connector", "language_model"]] = (),
    dtype: Dtype | None = None,
    attn_implementation: Attention | None = None,
    quantization: QuantizationConfig | None = None,
    pad_to_multiple_of: RowMultiple | None = None,
) -> Any:
    """Any vision language model of transformers, with its own processor; in evaluation mode.

    Args:
        tokenizer: its own; embeddings are added for tokens that a codec adds.
        model_name_or_path: local folder as transformers' AutoModelForImageTextToText reads it, with its processor.
        image_processor: settings of its image processor that are to differ, such as dict(size=...), or bounds on what
            is seen of an image, such as dict(max_pixels=...), see `mllm.images.resolution.Resolution`.
        freeze: parts that are not trained, of "vision_tower", "connector", "language_model".
        dtype: "float32" (default), "bfloat16", "float16", or "auto": that of the checkpoint.
        attn_implementation: as in transformers (default: its choice), or for packed rows `mllm_packed` or `mllm_flex`,
            see `mllm.models.runtime.packed_attention`.
        quantization: of the language model as it is loaded; see `quantized_loading`.
        pad_to_multiple_of: round the number of embeddings up when some are added.

    Raises:
        ConfigError: a type that sees no images, or unknown names.
        ModelError: a folder that does not hold what it should, or whose self-check fails.
    """
    model = build_unchecked(
        tokenizer=tokenizer,
        model_name_or_path=model_name_or_path,
        image_processor=image_processor,
        freeze=freeze,
        dtype=dtype,
        attn_implementation=attn_implementation,
        quantization=quantization,
        pad_to_multiple_of=pad_to_multiple_of,
    )
    if image_processor:
        _try(model, tokenizer)
    prove_or_refuse(model, tokenizer, require_whole_model(model_name_or_path))
    return model


def build_unchecked(
    *,
    tokenizer: PreTrainedTokenizerBase,
    model_name_or_path: str,
    image_processor: Mapping[str, object] | None = None,
    freeze: Sequence[str] = (),
    dtype: Dtype | None = None,
    attn_implementation: Attention | None = None,
    quantization: QuantizationConfig | None = None,
    pad_to_multiple_of: int | None = None,
) -> Any:
    """As `hf`, of a model whose self-check may fail."""
    folder = require_whole_model(model_name_or_path)
    family = family_of(folder)
    config = read_config(folder)
    files = {name: Path(folder) / name for name in PROCESSORS if (Path(folder) / name).is_file()}
    texts = {name: read_text(path, ModelError) for name, path in files.items()}
    own_images = _image_processor(folder, texts)
    if image_processor:
        image_processor = _in_own_words(image_processor, own_images)
        _check_settings(image_processor, own_images)
        texts = {name: override_settings(text, image_processor) for name, text in texts.items()}
        own_images = _image_processor(folder, texts)
    try:
        view = make_view(folder, family, config, tokenizer, own_images)
    except ModelError as error:
        raise _unreadable(error) if image_processor else error from error
    own: Any = MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING[type(config)]
    packed = attn_implementation in (PACKED, FLEX)
    loading: dict[str, Any] = {
        "dtype": torch_dtype(dtype),
        "attn_implementation": None if packed else attn_implementation,
    }
    kind = native_class(own, NativeEncoderDecoder if config.is_encoder_decoder else Native)
    if quantization:
        loading |= quantized_loading(quantization, lambda: kind(config))
    model = load_strictly(kind, folder, whole=True, **loading)
    finalise_quantization(model, model.text_model, quantization)
    if packed:  # the vision tower's patches lie in no rows
        model.text_model.set_attn_implementation(attn_implementation)
    image = _token_id(tokenizer, view.feature, folder)
    model.attach(view=view, files=texts, image_token_id=image)
    return finish(model, tokenizer, freeze=freeze, pad_to_multiple_of=pad_to_multiple_of)


def make_view(folder: str, family: Family, config: Any, tokenizer: Any, image_processor: Any) -> ProcessorView:
    """How a family sees images, with the processor of its folder around this image processor.

    Raises:
        ModelError: the family needs its processor, which cannot be built.
    """
    number = getattr(config, "image_token_id", None) or getattr(config, "image_token_index", None)
    feature = None if number is None else tokenizer.convert_ids_to_tokens(number)
    if number is not None and feature is None:
        expected = f"a token for images, id {number} of config.json"
        raise ModelError(where=folder, field="tokenizer", expected=expected, found=f"{len(tokenizer)} tokens")
    processor: Any = None
    _set(image_processor, family.settings(config))
    if family.placeholder_tokens is None:
        with reading_model_files(folder, "its processor", PROCESSORS):
            kind = processor_class(_said(folder, "processor_class"), config.model_type)
            if kind is None:
                raise ModelError(where=folder, field="processor_class", expected="one of transformers", found="none")
            processor = make_transformers_processor(kind, folder, tokenizer=tokenizer, image_processor=image_processor)
        _set(image_processor, getattr(processor, "images_kwargs", {}))
        tokenizer.chat_template = tokenizer.chat_template or processor.chat_template
        if family.opened:
            _open(tokenizer)
    with reading_model_files(folder, "its processor", PROCESSORS):
        return ProcessorView(
            family=family, config=config, processor=processor, image_processor=image_processor, feature=feature
        )


def _set(image_processor: object, settings: Mapping[str, object]) -> None:
    """What a processor calls its image processor with becomes its own setting, so that `place` knows it."""
    for name, value in settings.items():
        setattr(image_processor, name, value)


def _open(tokenizer: Any) -> None:
    """Have the chat template write the first token of a text, which a processor puts there where that does not."""
    first = first_token(tokenizer)
    asked = [{"role": "user", "content": [{"type": "text", "text": "a"}]}]
    if not tokenizer.apply_chat_template(asked, tokenize=False).startswith(first):
        tokenizer.chat_template = first + tokenizer.chat_template


def _said(folder: str, key: str) -> Any:
    """What the first file of a folder that holds this key says."""
    for name in (*PROCESSORS, "tokenizer_config.json"):
        path = Path(folder) / name
        if path.is_file() and (found := read_json(path, dict, ModelError).get(key)):
            return found
    return None


@torch.no_grad()
def _try(model: Any, tokenizer: PreTrainedTokenizerBase) -> None:
    """Let the model read an image as the changed settings prepare it.

    Raises:
        ConfigError: it cannot; the first step would show it.
    """
    if without_storage() or model.dtype == torch.float16 or attention_of(model.config) not in ("eager", "sdpa"):
        return  # what only a GPU computes
    image = Image.new("RGB", TRIED_SIZE)
    try:
        view = model.image_preprocessor()
        ids = tokenizer(view.placeholder_tokens(image.size), add_special_tokens=False, return_tensors="pt")
        model(**ids, **view(image))
    except (*REFUSALS, MllmError) as error:
        raise _unreadable(error) from error


def _unreadable(error: Exception) -> ConfigError:
    found = f"of {TRIED_SIZE[0]} x {TRIED_SIZE[1]} pixels: {one_line(error)}"
    return ConfigError(
        f"the model cannot read an image that is prepared so, {found}", field="model_args.image_processor"
    )


def _image_processor(folder: str, texts: Mapping[str, str]) -> Any:
    """That of these files, in the version that needs no torchvision."""
    with TemporaryDirectory() as copy:
        for name, text in texts.items():
            (Path(copy) / name).write_text(text, encoding="utf-8")
        try:
            return read_image_processor(copy)
        except ModelError as error:  # of the copy
            raise ModelError(
                f"its image processor, of {sorted(texts) or 'no file'}: {error.reason}", where=folder
            ) from error


def _in_own_words(settings: Mapping[str, Any], processor: Any) -> dict[str, Any]:
    """Settings in which bounds that any family may have are those of this processor.

    Raises:
        ConfigError: it takes other bounds, or a setting beside them says the same.
    """
    known = json.loads(processor.to_json_string())
    bounds = {name: value for name, value in settings.items() if name in BOUNDS and name not in known}
    rest = {name: value for name, value in settings.items() if name not in bounds}
    if not bounds:
        return rest
    field = "model_args.image_processor"
    in_field(field, check, bounds, Resolution)
    found = in_field(field, settings_for, processor, in_field(field, lambda: Resolution(**bounds)))
    if doubled := sorted(found.keys() & rest.keys()):
        raise ConfigError(
            field=f"{field}.{doubled[0]}", expected=f"nothing beside {', '.join(bounds)}", found="a value"
        )
    return {**rest, **found}


def _check_settings(settings: Mapping[str, object], processor: Any) -> None:
    """Each setting is one that the processor has, and a value like its own."""
    known = json.loads(processor.to_json_string())
    for name, value in settings.items():
        if name not in known:
            raise ConfigError(
                nearest(name, known),
                field="model_args.image_processor",
                expected=f"a setting of {type(processor).__name__}",
                found=repr(name),
            )
        field = f"model_args.image_processor.{name}"
        in_field(field, check, value, KINDS.get(name) or _kind(value, known[name]))
        if name in SHAPES and value != known[name]:
            raise ConfigError(
                "the model's weights are made for it", field=field, expected=repr(known[name]), found=show(value)
            )
    check_settings(settings, "model_args.image_processor", ConfigError)


def _kind(value: object, usual: object) -> Any:
    """What a setting is by the one that the processor has; whole numbers are above 0, as in sizes."""
    if isinstance(usual, Mapping):
        return Mapping[str, PositiveInt | None]
    if type(value) is int and (usual is None or type(usual) in (int, float)):
        return PositiveInt
    return Any if usual is None else type(usual)


def _token_id(tokenizer: PreTrainedTokenizerBase, token: str, folder: str) -> int:
    number = token_id(tokenizer, token)
    if number is None:
        raise ModelError(where=folder, field="tokenizer", expected=f"a token {token!r} for images", found="none")
    return number
