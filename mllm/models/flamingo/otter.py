"""Otter: an OpenFlamingo tuned on instructions, `<image>User: {question} GPT:<answer>{answer}<|endofchunk|>`.

Li et al. 2023, Otter. The network is `Flamingo`, with transformers' CLIP and learned embeddings of video frames; what
differs is the layout of its folders, and its own decoding, which can be asked for.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, PreTrainedTokenizerBase

from mllm.compat.transformers_models import no_init_weights
from mllm.errors import ConfigError, ModelError
from mllm.fields import PositiveInt, show
from mllm.files import read_json
from mllm.json_fields import field
from mllm.models.arguments import Attention, Checkpoint, Deviation, Dtype, Mean, RowMultiple, Spec
from mllm.models.auto import build, config_for, read_generation_config
from mllm.models.checkpoints.finite import finite
from mllm.models.checkpoints.lazy import open_folder
from mllm.models.components import finish, image_statistics, local_folder, refuse_parts, torch_dtype
from mllm.models.flamingo.builder import compose, from_parts, load_flamingo
from mllm.models.flamingo.checkpoints import load_reference, reference_state, to_our_names
from mllm.models.flamingo.model import Flamingo, FreezePart, MllmFlamingoConfig
from mllm.models.flamingo.perceiver import PerceiverConfig, Width
from mllm.models.meta_device import check_described, without_storage
from mllm.models.new_rows import TrainEmbeddings
from mllm.models.runtime.quantization import QuantizationConfig
from mllm.models.vision.encoders import new_encoder
from mllm.registry import MODELS
from mllm.tokenizer_files import token_id
from mllm.tokenizer_saving import save_tokenizer

MODEL_TYPES = ("otter", "flamingo")
TOKENS = ("<|endofchunk|>", "<answer>")
OTTER_NAMES = (
    (".gated_cross_attn_layer.ff.", ".gated_cross_attn_layer.feed_forward."),
    ("vision_encoder.", "vision_encoder.vision_model."),
)


@MODELS.register_module("otter")
def otter(
    *,
    tokenizer: PreTrainedTokenizerBase,
    model_name_or_path: str | None = None,
    vision_tower: Spec | None = None,
    language_model: Spec | None = None,
    checkpoint: Checkpoint | None = None,
    cross_attn_every_n_layers: PositiveInt | None = None,
    perceiver: PerceiverConfig | None = None,
    max_num_frames: Width | None = None,
    image_blind_decoding: bool | None = None,
    image_mean: Mean | None = None,
    image_std: Deviation | None = None,
    freeze: Sequence[FreezePart] = ("vision_tower", "language_model"),
    train_embeddings: TrainEmbeddings | None = None,
    dtype: Dtype | None = None,
    attn_implementation: Attention | None = None,
    quantization: QuantizationConfig | None = None,
    pad_to_multiple_of: RowMultiple | None = None,
) -> Flamingo:
    """An Otter in evaluation mode; arguments as of `openflamingo`, and:

    Args:
        tokenizer: holds `<image>`, `<|endofchunk|>` and `<answer>`, under the ids that a checkpoint knows them by.
        model_name_or_path: local folder of a whole model, our layout or Otter's.
        checkpoint: a file of OpenFlamingo to start from.
        max_num_frames: learned embeddings of the frames of a video; of parts None: images only.
        image_blind_decoding: new tokens after the first read no image, as in Otter's own cached generation;
            default False: they read what the prompt's last token reads.
        train_embeddings: default "input_and_output", as Otter is trained.

    Raises:
        ConfigError: arguments that contradict one another, or unknown names.
        ModelError: folders or files that do not hold what they should, or a tokenizer without these tokens.
    """
    missing = [token for token in TOKENS if token_id(tokenizer, token) is None]
    if missing:
        raise ModelError(
            where="tokenizer", expected=f"the tokens {', '.join(TOKENS)}", found=f"no {', '.join(missing)}"
        )
    parts = {
        "vision_tower": vision_tower,
        "language_model": language_model,
        "checkpoint": checkpoint,
        "cross_attn_every_n_layers": cross_attn_every_n_layers,
        "perceiver": perceiver if max_num_frames is None else {**(perceiver or {}), "max_frames": max_num_frames},
        "image_mean": image_mean,
        "image_std": image_std,
    }
    loading: dict[str, Any] = {"dtype": torch_dtype(dtype), "attn_implementation": attn_implementation}
    if model_name_or_path is not None:
        refuse_parts(model_name_or_path, parts)
    if model_name_or_path is None:
        given = {**parts, "vision_ln_post": None, "attend": None}
        model = from_parts("otter", given, tokenizer, **loading, quantization=quantization)
    elif not _is_otters(model_name_or_path):
        model = load_flamingo(model_name_or_path, **loading, quantization=quantization)
    elif quantization:
        raise ConfigError(
            field="quantization",
            expected="a folder saved by mllm, or parts",
            found=f"{model_name_or_path}, in Otter's layout",
        )
    else:
        model = load_otter(model_name_or_path, **loading)
    if image_blind_decoding is not None:
        model.config.image_blind_decoding = image_blind_decoding
    if train_embeddings is None:
        train_embeddings = "input_and_output" if "language_model" in freeze else "none"
    return finish(
        model, tokenizer, freeze=freeze, pad_to_multiple_of=pad_to_multiple_of, train_embeddings=train_embeddings
    )


def load_otter(folder: str, *, dtype: Any = None, attn_implementation: str | None = None) -> Flamingo:
    """The model in a folder of Otter's layout: config.json and one or more files of weights.

    Raises:
        ModelError: another kind of folder, or weights that do not fit, which are all listed.
    """
    path = Path(local_folder("model_name_or_path", folder)) / "config.json"
    if not without_storage():
        check_described(folder, lambda: load_otter(folder))
    settings = read_json(path, dict, ModelError)
    if settings.get("model_type") not in MODEL_TYPES:
        raise ModelError(
            where=str(path),
            field="model_type",
            expected=f"one of {', '.join(MODEL_TYPES)}",
            found=show(settings.get("model_type")),
        )
    frames = settings.get("max_num_frames")
    chosen: dict[str, Any] = {} if attn_implementation is None else {"attn_implementation": attn_implementation}
    text, vision = (part_config(path, settings, key) for key in ("text_config", "vision_config"))
    if dtype == "auto":
        dtype = text.dtype
    chosen["dtype"] = dtype or torch.float32
    with no_init_weights():  # all are read from the files
        encoder = new_encoder(vision, **chosen)
        language_model = build(AutoModelForCausalLM, text, **chosen)
        language_model.tie_weights()
        mean, std = image_statistics(folder, encoder.config)
        model = compose(
            encoder,
            language_model,
            cross_attn_every_n_layers=settings.get("cross_attn_every_n_layers", 4),
            perceiver={} if frames is None else {"max_frames": frames},
            image_mean=mean,
            image_std=std,
        )
    if not without_storage():
        state = {name: lazy.read() for name, lazy in to_our_names(finite(open_folder(Path(folder)))).items()}
        load_reference(model, state, folder, whole=True)
    model.generation_config = read_generation_config(folder) or model.generation_config
    return model


def save_otter(model: Flamingo, tokenizer: PreTrainedTokenizerBase, folder: str) -> None:
    """Write a folder in Otter's layout, all weights included.

    Raises:
        ModelError: the model is one that this layout cannot hold.
    """
    config: MllmFlamingoConfig = model.config
    other = {key: value for key, value in config.perceiver.items() if key != "max_frames"}
    if other or config.vision_ln_post or config.attend != "immediate":
        raise ModelError(
            f"Otter's layout cannot hold perceiver {other}, vision_ln_post {config.vision_ln_post}, "
            f"attend {config.attend!r}"
        )
    settings = {
        "model_type": MODEL_TYPES[0],
        "architectures": ["OtterForConditionalGeneration"],
        "cross_attn_every_n_layers": config.cross_attn_every_n_layers,
        "text_config": copy.deepcopy(model.language_model.config).to_dict(),
        "vision_config": copy.deepcopy(model.vision_tower.encoder.config).to_dict(),
        "tie_word_embeddings": False,
    }
    if config.perceiver.get("max_frames") is not None:
        settings["max_num_frames"] = config.perceiver["max_frames"]
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    (target / "config.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    state = {_otters_name(name): tensor for name, tensor in reference_state(model, whole=True).items()}
    state = {name: tensor.cpu().contiguous() for name, tensor in state.items()}
    save_file(state, target / "model.safetensors", {"format": "pt"})
    save_tokenizer(tokenizer, folder)
    statistics = {"image_mean": list(config.image_mean), "image_std": list(config.image_std)}
    (target / "preprocessor_config.json").write_text(json.dumps(statistics, indent=2) + "\n", encoding="utf-8")


def _is_otters(folder: str) -> bool:
    path = Path(local_folder("model_name_or_path", folder)) / "config.json"
    return read_json(path, dict, ModelError).get("model_type") in MODEL_TYPES


def part_config(path: Path, settings: Mapping[str, object], key: str) -> Any:
    """The config of one of the two models that an Otter is made of; `path` is for the message."""
    given = dict(field(settings, key, dict, where=path, error=ModelError))
    model_type = field(given, "model_type", str, key, where=path, error=ModelError)
    del given["model_type"]
    return config_for(model_type, given, f"{path}: {key}", ModelError)


def _otters_name(name: str) -> str:
    for own, theirs in OTTER_NAMES:
        name = name.replace(own, theirs)
    head, _, rest = name.partition("perceiver.layers.")
    if rest:
        number, kind, ending = rest.split(".", 2)
        middle = "" if kind == "0" else "feed_forward."
        return f"{head}perceiver.layers.{number}.{middle}{ending}"
    return name
