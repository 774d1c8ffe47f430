"""`model_args` of type "hf" -> a vision language model of transformers, in its own folder layout."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from transformers import (
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING,
    AutoConfig,
    AutoImageProcessor,
    PreTrainedTokenizerBase,
)

from mllm.errors import ConfigError, ModelError, nearest
from mllm.models.adaptation import base_of
from mllm.models.family import family_of
from mllm.models.native import native_class, with_settings
from mllm.models.parts import grow_vocabulary, load_strictly, local_folder, settle_generation, torch_dtype
from mllm.models.quantization import quantized_loading, settle_quantization
from mllm.models.selection import part_of
from mllm.models.speech import Speech, speaks
from mllm.registry import MODELS

PROCESSOR_FILES = ("preprocessor_config.json", "processor_config.json", "video_preprocessor_config.json")


def _speech(model_args: Mapping[str, Any]) -> Speech:
    folder = model_args.get("model_name_or_path")
    if not folder:
        raise ConfigError("hf needs model_name_or_path, the folder of a transformers model")
    family = family_of(local_folder("model_name_or_path", folder))
    return Speech(codec=family.codec, template=family.template, tokens=())


@MODELS.register_module("hf")
@speaks(_speech)
def hf(
    *,
    tokenizer: PreTrainedTokenizerBase,
    model_name_or_path: str,
    image_processor: Mapping[str, Any] | None = None,
    freeze: Sequence[str] = (),
    dtype: str | None = None,
    attn_implementation: str | None = None,
    quantization: Mapping[str, Any] | None = None,
    pad_to_multiple_of: int | None = None,
) -> Any:
    """A transformers vision language model in evaluation mode, of a family in `mllm/models/families`.

    Args:
        tokenizer: its own; embeddings are added for tokens that a codec adds.
        model_name_or_path: local folder as transformers' AutoModelForImageTextToText reads it, with its processor.
        image_processor: settings of its image processor that are to differ, such as dict(size=...).
        freeze: parts that are not trained, of "vision_tower", "connector", "language_model".
        dtype: "float32" (default), "bfloat16", "float16", or "auto": that of the checkpoint.
        attn_implementation: as in transformers; default: its choice.
        quantization: of the language model as it is loaded; see `quantized_loading`.
        pad_to_multiple_of: round the number of embeddings up when some are added.

    Raises:
        ConfigError: an unknown family, or unknown names.
        ModelError: a folder that does not hold what it should.
    """
    folder = local_folder("model_name_or_path", model_name_or_path)
    if base_of(folder):
        raise ModelError(f"{folder} holds adapters, not a whole model: first mllm merge {folder} OUT_DIR")
    family = family_of(folder)
    config = AutoConfig.from_pretrained(folder, local_files_only=True)
    own: Any = MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING[type(config)]
    loading: dict[str, Any] = {"dtype": torch_dtype(dtype), "attn_implementation": attn_implementation}
    if quantization:
        loading |= quantized_loading(quantization, lambda: own(config))
    model = load_strictly(native_class(own), folder, whole=True, **loading)
    settle_quantization(model, _text_model(model), quantization)
    settings = dict(image_processor or {})
    model.attach(
        family=family,
        processor=_image_processor(folder, settings),
        files={
            name: with_settings((Path(folder) / name).read_text(encoding="utf-8"), settings)
            for name in PROCESSOR_FILES
            if (Path(folder) / name).is_file()
        },
        picture_token_id=_token_id(tokenizer, family.token, folder),
    )
    grow_vocabulary(model, tokenizer, pad_to_multiple_of)
    settle_generation(model.generation_config, tokenizer)
    model.freeze(freeze)
    return model.eval()


def _image_processor(folder: str, settings: Mapping[str, Any]) -> Any:
    """The one that needs no torchvision."""
    try:
        processor = AutoImageProcessor.from_pretrained(folder, backend="pil", local_files_only=True, **settings)
    except (OSError, ValueError) as error:
        raise ModelError(f"{folder}: its image processor: {error}") from error
    known = processor.to_dict()
    for name in settings:
        if name not in known:
            raise ConfigError(f"image_processor: {type(processor).__name__} has no {name!r}; {nearest(name, known)}")
    return processor


def _text_model(model: Any) -> Any:
    return next(module for name, module in model.named_modules() if part_of(name) == "language_model")


def _token_id(tokenizer: PreTrainedTokenizerBase, token: str, folder: str) -> int:
    number = tokenizer.get_vocab().get(token)
    if number is None:
        raise ModelError(f"{folder}: its tokenizer has no token {token!r}, by which pictures enter the text")
    return number
