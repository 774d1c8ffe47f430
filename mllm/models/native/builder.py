"""`model_args` of type "hf" -> a vision language model of transformers, in its own folder layout."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

from transformers import (
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING,
    PreTrainedTokenizerBase,
)

from mllm.errors import ConfigError, ModelError, nearest
from mllm.fields import PathName, PositiveInt, check, within
from mllm.files import read_text
from mllm.model_files import check_settings
from mllm.models.adapters.injection import whole_model
from mllm.models.arguments import Attention, Dtype
from mllm.models.auto import PROCESSORS, read_config, read_image_processor
from mllm.models.components import finish, load_strictly, torch_dtype
from mllm.models.native.family import family_of
from mllm.models.native.model import native_class, with_settings
from mllm.models.runtime.packed_attention import FLEX, PACKED
from mllm.models.runtime.quantization import QuantizationConfig, finalise_quantization, quantized_loading
from mllm.registry import MODELS
from mllm.tokenizer_files import token_id

RESAMPLE = "resample"
"""The number of a filter of Pillow's, of which one is 0."""


@MODELS.register_module("hf")
def hf(
    *,
    tokenizer: PreTrainedTokenizerBase,
    model_name_or_path: PathName,
    image_processor: Mapping[str, Any] | None = None,
    freeze: Sequence[Literal["vision_tower", "connector", "language_model"]] = (),
    dtype: Dtype | None = None,
    attn_implementation: Attention | None = None,
    quantization: QuantizationConfig | None = None,
    pad_to_multiple_of: PositiveInt | None = None,
) -> Any:
    """A transformers vision language model in evaluation mode, of a family in `mllm/models/native/families`.

    Args:
        tokenizer: its own; embeddings are added for tokens that a codec adds.
        model_name_or_path: local folder as transformers' AutoModelForImageTextToText reads it, with its processor.
        image_processor: settings of its image processor that are to differ, such as dict(size=...).
        freeze: parts that are not trained, of "vision_tower", "connector", "language_model".
        dtype: "float32" (default), "bfloat16", "float16", or "auto": that of the checkpoint.
        attn_implementation: as in transformers (default: its choice), or for packed rows `mllm_packed` or `mllm_flex`,
            see `mllm.models.runtime.packed_attention`.
        quantization: of the language model as it is loaded; see `quantized_loading`.
        pad_to_multiple_of: round the number of embeddings up when some are added.

    Raises:
        ConfigError: an unknown family, or unknown names.
        ModelError: a folder that does not hold what it should.
    """
    folder = whole_model(model_name_or_path)
    family = family_of(folder)
    config = read_config(folder)
    own: Any = MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING[type(config)]
    packed = attn_implementation in (PACKED, FLEX)
    loading: dict[str, Any] = {
        "dtype": torch_dtype(dtype),
        "attn_implementation": None if packed else attn_implementation,
    }
    if quantization:
        loading |= quantized_loading(quantization, lambda: own(config))
    model = load_strictly(native_class(own), folder, whole=True, **loading)
    finalise_quantization(model, model.text_model, quantization)
    if packed:  # the vision tower's patches lie in no rows
        model.text_model.set_attn_implementation(attn_implementation)
    files = {name: Path(folder) / name for name in PROCESSORS if (Path(folder) / name).is_file()}
    texts = {name: read_text(path, ModelError) for name, path in files.items()}
    processor = _image_processor(folder, texts)
    if image_processor:
        _check_settings(image_processor, processor)
        texts = {name: with_settings(text, image_processor) for name, text in texts.items()}
        processor = _image_processor(folder, texts)
    image = _token_id(tokenizer, family.token, folder)
    model.attach(family=family, processor=processor, files=texts, image_token_id=image)
    return finish(model, tokenizer, freeze=freeze, pad_to_multiple_of=pad_to_multiple_of)


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


def _check_settings(settings: Mapping[str, Any], processor: Any) -> None:
    """Each setting is one that the processor has, and a value like its own."""
    known = json.loads(processor.to_json_string())
    for name, value in settings.items():
        if name not in known:
            raise ConfigError(f"image_processor: {type(processor).__name__} has no {name!r}; {nearest(name, known)}")
        within(f"model_args.image_processor.{name}", check, value, _kind(name, value, known[name]))
    check_settings(settings, "model_args.image_processor", ConfigError)


def _kind(name: str, value: object, usual: object) -> Any:
    """What a setting is by the one that the processor has; whole numbers, but for one, are above 0, as in sizes."""
    if isinstance(usual, Mapping):
        return Mapping[str, PositiveInt | None]
    if type(value) is int and name != RESAMPLE and (usual is None or type(usual) in (int, float)):
        return PositiveInt
    return Any if usual is None else type(usual)


def _token_id(tokenizer: PreTrainedTokenizerBase, token: str, folder: str) -> int:
    number = token_id(tokenizer, token)
    if number is None:
        raise ModelError(f"{folder}: its tokenizer has no token {token!r} for images")
    return number
