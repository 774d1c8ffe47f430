"""`model_args` of type "openflamingo" -> a Flamingo: from a checkpoint folder, or from parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from mllm.compat.transformers_models import attention_of, experts_of
from mllm.errors import ModelError
from mllm.fields import PathName, PositiveInt, show
from mllm.files import read_json
from mllm.models.adapters.injection import require_whole_model
from mllm.models.arguments import Attention, Checkpoint, Deviation, Dtype, Mean, RowMultiple, Spec
from mllm.models.auto import read_config, read_generation_config
from mllm.models.components import (
    finish,
    image_statistics,
    load_causal_lm,
    parts_missing,
    refuse_parts,
    torch_dtype,
    vision_encoder,
)
from mllm.models.flamingo.checkpoints import load_reference, read_reference
from mllm.models.flamingo.cross_attention import Attend, cross_attention_blocks
from mllm.models.flamingo.model import Flamingo, FreezePart, MllmFlamingoConfig
from mllm.models.flamingo.perceiver import PerceiverConfig
from mllm.models.meta_device import without_storage
from mllm.models.new_rows import TrainEmbeddings
from mllm.models.runtime.quantization import QuantizationConfig, finalise_quantization, quantized_loading
from mllm.models.strict_loading import load_strictly
from mllm.registry import MODELS
from mllm.tokenizer_files import token_id
from mllm.types import IMAGE

if TYPE_CHECKING:
    import torch

NAMED_TOKENS = (IMAGE, "<|endofchunk|>", "<answer>")
"""Tokens that a language model learns from a Flamingo."""


@MODELS.register_module("openflamingo")
def openflamingo(
    *,
    tokenizer: PreTrainedTokenizerBase,
    model_name_or_path: PathName | None = None,
    vision_tower: Spec | None = None,
    language_model: Spec | None = None,
    checkpoint: Checkpoint | None = None,
    cross_attn_every_n_layers: PositiveInt | None = None,
    perceiver: PerceiverConfig | None = None,
    vision_ln_post: bool | None = None,
    attend: Attend | None = None,
    generated_image_resets: bool | None = None,
    image_mean: Mean | None = None,
    image_std: Deviation | None = None,
    freeze: Sequence[FreezePart] = ("vision_tower", "language_model"),
    train_embeddings: TrainEmbeddings | None = None,
    dtype: Dtype | None = None,
    attn_implementation: Attention | None = None,
    quantization: QuantizationConfig | None = None,
    pad_to_multiple_of: RowMultiple | None = None,
) -> Flamingo:
    """A Flamingo in evaluation mode, either from a folder or from a vision tower and a language model.

    Args:
        tokenizer: holds `<image>` and all other tokens that the texts use; embeddings are added where they lack.
        model_name_or_path: local folder of a whole model, our layout. It answers for all parts.
        vision_tower: local folder, or a dict of a transformers config for random weights.
        language_model: the same; a random one takes vocabulary size and special tokens from the tokenizer.
        checkpoint: a file of OpenFlamingo over these parts, released or from training, or several: a list, or
            "a.pt,b.pt". Its token ids are those of the tokenizer that it was trained with, which must be `tokenizer`.
        cross_attn_every_n_layers: of parts 4.
        perceiver: of parts `depth` 6, `latents` 64, `heads` 8, `head_width` 64, `max_frames` and `max_media` None.
        vision_ln_post: pass patches through CLIP's last norm, as open_clip from 2.23 on does; of parts False.
        attend: which media a token reads, "immediate" (default), "next", "all_previous", "all_previous_leaky".
        generated_image_resets: after a generated `<image>`, count media as OpenFlamingo's own code does; default False.
        image_mean: of pixels, per channel; of parts what the vision tower's folder says, else its family's.
        image_std: likewise.
        freeze: parts that are not trained, of "vision_tower", "perceiver", "cross_attention", "language_model".
        train_embeddings: of a frozen language model, "new" (default) token rows, "input", "input_and_output", "none".
        dtype: "float32" (default), "bfloat16", "float16", or "auto": that of the checkpoint's language model.
        attn_implementation: as in transformers (default: its choice), or for packed rows `mllm_packed` or `mllm_flex`,
            see `mllm.models.runtime.packed_attention`.
        quantization: of the language model's own layers as they are loaded; see `quantized_loading`.
        pad_to_multiple_of: round the number of embeddings up when some are added.

    Raises:
        ConfigError: arguments that contradict one another, or unknown names.
        ModelError: folders or files that do not hold what they should, or a tokenizer without `<image>`.
    """
    parts = {
        "vision_tower": vision_tower,
        "language_model": language_model,
        "checkpoint": checkpoint,
        "cross_attn_every_n_layers": cross_attn_every_n_layers,
        "perceiver": perceiver,
        "vision_ln_post": vision_ln_post,
        "attend": attend,
        "image_mean": image_mean,
        "image_std": image_std,
    }
    loading: dict[str, Any] = {
        "dtype": torch_dtype(dtype),
        "attn_implementation": attn_implementation,
        "quantization": quantization,
    }
    if model_name_or_path is not None:
        refuse_parts(model_name_or_path, parts)
        model = load_flamingo(model_name_or_path, **loading)
    else:
        model = from_parts("openflamingo", parts, tokenizer, **loading)
    if generated_image_resets is not None:
        model.config.generated_image_resets = generated_image_resets
    if train_embeddings is None:
        train_embeddings = "new" if "language_model" in freeze else "none"
    return finish(
        model, tokenizer, freeze=freeze, pad_to_multiple_of=pad_to_multiple_of, train_embeddings=train_embeddings
    )


def load_flamingo(
    folder: str,
    *,
    dtype: Any = "auto",
    attn_implementation: str | None = None,
    quantization: Mapping[str, object] | None = None,
) -> Flamingo:
    """The model in a folder that this toolkit saved.

    Raises:
        ModelError: no such folder, another kind of model, or tensors that do not fit it, which are all listed.
    """
    path = Path(require_whole_model(folder)) / "config.json"
    model_type = read_json(path, dict, ModelError).get("model_type")
    if model_type != MllmFlamingoConfig.model_type:
        expected = repr(MllmFlamingoConfig.model_type)
        raise ModelError(where=str(path), field="model_type", expected=expected, found=show(model_type))
    loading: dict[str, Any] = {"dtype": dtype, "attn_implementation": attn_implementation}
    if quantization:
        config = read_config(folder)
        loading |= quantized_loading(quantization, lambda: Flamingo(config))
    model: Flamingo = load_strictly(Flamingo, folder, whole=True, **loading)
    finalise_quantization(model, model.language_model, quantization)
    model.generation_config = read_generation_config(folder) or model.generation_config
    return model


def from_parts(
    name: str,
    parts: Mapping[str, Any],
    tokenizer: PreTrainedTokenizerBase,
    *,
    dtype: torch.dtype,
    attn_implementation: str | None,
    quantization: Mapping[str, object] | None,
) -> Flamingo:
    """A new Flamingo around two models, with the weights of a checkpoint file where one is given."""
    if parts["vision_tower"] is None or parts["language_model"] is None:
        raise parts_missing(name, parts)
    language_model = load_causal_lm(
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
    settings = {"image_mean": mean, "image_std": std, "new_token_ids": new_token_ids(language_model, tokenizer)}
    for key in ("cross_attn_every_n_layers", "vision_ln_post", "attend"):
        if parts[key] is not None:
            settings[key] = parts[key]
    model = compose(encoder, language_model, perceiver=dict(parts["perceiver"] or {}), **settings)
    if parts["checkpoint"] is not None and not without_storage():
        load_reference(model, read_reference(parts["checkpoint"]), str(parts["checkpoint"]))
    return model


def compose(encoder: PreTrainedModel, language_model: PreTrainedModel, **settings: object) -> Flamingo:
    """A Flamingo around these two models, which it takes over; perceiver and cross-attention are new."""
    parts = {"vision_config": encoder.config, "text_config": language_model.config}
    # a new composite config resets these choices of its parts, unless it is told them
    attention = {name: attention_of(config) for name, config in parts.items()}
    experts = {name: experts_of(config) for name, config in parts.items()}
    choices: dict[str, Any] = {"attn_implementation": attention, "experts_implementation": experts}
    config = MllmFlamingoConfig(**parts, **settings, **choices)
    model = Flamingo(config, vision_encoder=encoder, language_model=language_model)
    for module in (model.perceiver, *cross_attention_blocks(language_model)):
        module.to(language_model.dtype)
    return model.eval()


def new_token_ids(language_model: Any, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The tokens that the language model was not pretrained with."""
    rows = language_model.get_input_embeddings().num_embeddings
    words: Any = tokenizer
    usual = {words.bos_token_id, words.eos_token_id, words.pad_token_id, words.unk_token_id}
    named = {number for token in NAMED_TOKENS if (number := token_id(tokenizer, token)) is not None}
    # a matrix may have spare rows: special tokens behind the words are new there too
    special = {
        number
        for number, token in tokenizer.added_tokens_decoder.items()
        if token.special and number >= tokenizer.vocab_size
    }
    return sorted((named | special | set(range(rows, len(tokenizer)))) - usual)
