"""`model_args` of type "llava" -> a Llava: from a checkpoint folder, or from parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from transformers import PreTrainedTokenizerBase

from mllm.errors import ConfigError, ModelError
from mllm.models.checkpoints import compose, load_llava
from mllm.models.llava import Llava
from mllm.models.parts import (
    Spec,
    causal_lm,
    grow_vocabulary,
    image_statistics,
    settle_generation,
    torch_dtype,
    vision_encoder,
)
from mllm.registry import MODELS
from mllm.types import IMAGE


@MODELS.register_module("llava")
def llava(
    *,
    tokenizer: PreTrainedTokenizerBase,
    model_name_or_path: str | None = None,
    vision_tower: Spec | None = None,
    language_model: Spec | None = None,
    connector: str | Mapping[str, Any] | None = None,
    feature_layer: int | None = None,
    keep_cls: bool | None = None,
    image_mean: Sequence[float] | None = None,
    image_std: Sequence[float] | None = None,
    freeze: Sequence[str] = (),
    dtype: str | None = None,
    attn_implementation: str | None = None,
    quantization: Mapping[str, Any] | None = None,
    pad_to_multiple_of: int | None = None,
) -> Llava:
    """A LLaVA in evaluation mode, either from a checkpoint or from a vision tower and a language model.

    Args:
        tokenizer: holds `<image>` and all other tokens that the texts use; embeddings are added where they lack.
        model_name_or_path: local folder of a whole model, our layout or transformers' LLaVA. It answers for all parts.
        vision_tower: local folder, or a dict of a transformers config for random weights.
        language_model: the same; a random one takes vocabulary size and special tokens from the tokenizer.
        connector: name or dict of a registered connector; of parts "mlp2x_gelu".
        feature_layer: hidden state of the vision tower that is read; of parts -2.
        keep_cls: keep the tokens before the patches; of parts False.
        image_mean: of pixels, per channel; of parts what the vision tower's folder says, else its family's.
        image_std: likewise.
        freeze: parts that are not trained, of "vision_tower", "connector", "language_model".
        dtype: "float32" (default), "bfloat16", "float16", or "auto": that of the checkpoint's language model.
        attn_implementation: as in transformers, for both parts; default: its choice.
        quantization: of the language model as it is loaded; see `quantized_loading`.
        pad_to_multiple_of: round the number of embeddings up when some are added.

    Raises:
        ConfigError: arguments that contradict one another, or unknown names.
        ModelError: folders that do not hold what they should, or a tokenizer without `<image>`.
    """
    parts = {
        "vision_tower": vision_tower,
        "language_model": language_model,
        "connector": connector,
        "feature_layer": feature_layer,
        "keep_cls": keep_cls,
        "image_mean": image_mean,
        "image_std": image_std,
    }
    image_token_id = tokenizer.get_vocab().get(IMAGE)
    if image_token_id is None:
        raise ModelError(f"the tokenizer has no token {IMAGE}")
    loading: dict[str, Any] = {
        "dtype": torch_dtype(dtype),
        "attn_implementation": attn_implementation,
        "quantization": quantization,
    }
    if model_name_or_path is not None:
        doubled = [name for name, value in parts.items() if value is not None]
        if doubled:
            raise ConfigError(f"model_name_or_path {model_name_or_path} says what {', '.join(doubled)} is: drop one")
        model = load_llava(model_name_or_path, **loading)
    elif vision_tower is None or language_model is None:
        raise ConfigError("llava needs model_name_or_path, or both vision_tower and language_model")
    else:
        model = _from_parts(parts, tokenizer, **loading)
    grow_vocabulary(model.language_model, tokenizer, pad_to_multiple_of)
    settle_generation(model.generation_config, tokenizer)
    model.config.image_token_id = image_token_id
    model.freeze(freeze)
    return model


def _from_parts(
    parts: Mapping[str, Any],
    tokenizer: PreTrainedTokenizerBase,
    *,
    dtype: Any,
    attn_implementation: str | None,
    quantization: Mapping[str, Any] | None,
) -> Llava:
    language_model = causal_lm(
        parts["language_model"],
        tokenizer,
        dtype=dtype,
        attn_implementation=attn_implementation,
        quantization=quantization,
    )
    # one dtype for the whole model: sharding groups parameters of different parts
    dtype = language_model.dtype
    encoder = vision_encoder(parts["vision_tower"], dtype=dtype, attn_implementation=attn_implementation)
    mean, std = parts["image_mean"], parts["image_std"]
    if mean is None or std is None:
        folder = parts["vision_tower"] if isinstance(parts["vision_tower"], str) else None
        known_mean, known_std = image_statistics(folder, encoder.config)
        mean, std = mean or known_mean, std or known_std
    connector = parts["connector"] or "mlp2x_gelu"
    config = compose(
        encoder,
        language_model,
        connector={"type": connector} if isinstance(connector, str) else dict(connector),
        feature_layer=-2 if parts["feature_layer"] is None else parts["feature_layer"],
        keep_cls=bool(parts["keep_cls"]),
        image_mean=mean,
        image_std=std,
    )
    model = Llava(config, vision_encoder=encoder, language_model=language_model)
    model.connector.to(dtype)
    return model.eval()
