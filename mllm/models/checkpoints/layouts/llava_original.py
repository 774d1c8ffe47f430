"""Folders of the original LLaVA code, v1 (one linear layer) and v1.5 (a perceptron), whole or as a delta to a LLaMA.

A projector alone (`mm_projector.bin`) and LoRA with `non_lora_trainables.bin` go onto a base.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mllm.errors import ModelError, listing
from mllm.model_files import ADAPTER_CONFIG
from mllm.models.adapters.low_rank import matrices, merge_matrices, plain_names, read_scaling
from mllm.models.checkpoints.layout import BaseModels, Checkpoint, ModelPlan, read_optional_config
from mllm.models.checkpoints.lazy import Weights, open_folder, sum_lazily
from mllm.models.checkpoints.weight_sources import (
    LANGUAGE_MODEL,
    config_of,
    language_config,
    language_names,
    rename,
    vision_config,
    vision_weights,
    with_prefix,
)
from mllm.models.components import image_statistics
from mllm.models.llava.model import MllmLlavaConfig
from mllm.registry import LAYOUTS

FAMILIES = {"llava": "llama", "llava_llama": "llama", "llava_mistral": "mistral", "shikra": "llama"}
"""The language model behind each model_type."""
RULES = (
    (r"^model\.vision_tower\.vision_tower\.(vision_model\.)?", "vision_tower.encoder."),
    (r"^model\.mm_projector\.(\d+)\.", r"connector.layers.\1."),
    (r"^model\.mm_projector\.", "connector.layer."),
    (r"^mm_projector\.(\d+)\.", r"connector.layers.\1."),
    (r"^mm_projector\.", "connector.layer."),
    (r"^model\.image_newline$", "image_newline"),
    (r"^(model|lm_head)\.", r"language_model.\1."),
)
NEAR_ZERO = 0.25
"""Norms of a language model are about 1 and more; those of a delta are what training changed of them."""


def is_delta(weights: Weights) -> bool:
    """Whether these are differences to a language model, which looks at one small tensor."""
    norm = weights.get("model.norm.weight")
    return norm is not None and abs(float(norm.read().float().mean())) < NEAR_ZERO


def missing_parts(opened: Checkpoint) -> dict[str, str]:
    """The language model of a delta, and the vision encoder, which few files hold, and whose config none does."""
    held = any(".vision_tower." in name for name in opened.weights)
    named = opened.config.get("mm_vision_tower", "its vision encoder")
    found = {"vision_tower": f"--vision-tower, a folder of {named}{', of which only the config is taken' * held}"}
    if is_delta(opened.weights):
        found["language_model"] = "--base, a LLaMA to which these are differences"
    return found


def with_base(weights: Weights, base: str, path: str) -> Weights:
    """The sum with a language model's folder; what it has fewer rows of are the embeddings.

    Raises:
        ModelError: lists the base's tensors that have no place, and those of another shape.
    """
    under = rename(open_folder(Path(base)), ())
    found, wrong = dict(weights), []
    for name, lazy in under.items():
        delta = weights.get(name)
        if delta is None:
            wrong.append(f"missing {name} in the delta")
            continue
        embeddings = name in ("model.embed_tokens.weight", "lm_head.weight")
        rows_fit = delta.shape[0] >= lazy.shape[0] if embeddings else delta.shape[0] == lazy.shape[0]
        if delta.shape[1:] != lazy.shape[1:] or not rows_fit:
            wrong.append(f"{name}: {list(delta.shape)} for a base of {list(lazy.shape)}")
            continue
        found[name] = sum_lazily(lazy, delta)
    if wrong:
        raise ModelError(f"is not a delta of {base}: {listing(wrong)}", where=str(path))
    return found


def compose(
    settings: Mapping[str, Any], weights: Weights, text: Any, tower: str, *, folders: tuple[str, ...], rows: int | None
) -> ModelPlan:
    """The plan of weights under our names, with the vision encoder of its own folder where they have none."""
    if "mm_vision_select_layer" not in settings:
        raise ModelError(
            "put LLaVA's own config.json beside the weights",
            where=str(Path(folders[0], "config.json")),
            field="mm_vision_select_layer",
            expected="the hidden state of the vision encoder to use",
            found="nothing",
        )
    encoder = vision_config(tower)
    if not any(name.startswith("vision_tower.") for name in weights):
        weights = {**weights, **vision_weights(tower)}
    embeddings = weights.get(f"{LANGUAGE_MODEL}model.embed_tokens.weight")
    if embeddings is not None:
        text.vocab_size = embeddings.shape[0]
    mean, std = image_statistics(tower, encoder)
    layers = sum(bool(re.fullmatch(r"connector\.layers\.\d+\.weight", name)) for name in weights)
    config = MllmLlavaConfig(
        vision_config=encoder,
        text_config=text,
        connector={"type": f"mlp{layers}x_gelu" if layers else "linear"},
        feature_layer=settings["mm_vision_select_layer"],
        keep_cls=settings.get("mm_vision_select_feature", "patch") == "cls_patch",
        image_mean=mean,
        image_std=std,
    )
    return ModelPlan(config=config, weights=weights, kind="llava", folders=folders, base_rows=rows)


def tower_of(opened: Checkpoint, sources: BaseModels, settings: Mapping[str, Any]) -> str:
    named = settings.get("mm_vision_tower") or settings.get("vision_tower")
    if sources.vision_tower is None and named and Path(named).is_dir():
        return named
    return sources.need("vision_tower", opened, f"a local folder of {named or 'its vision encoder'}")


def check_kind(opened: Checkpoint, settings: Mapping[str, object], weights: Weights) -> None:
    if "model.image_newline" in weights or settings.get("image_aspect_ratio") == "anyres":
        raise ModelError(f"{opened.path}: any-resolution tiles (LLaVA 1.6) in the original layout cannot be converted")
    if settings.get("mm_projector_type") == "identity":
        raise ModelError(
            where=opened.path,
            field="mm_projector_type",
            expected="a projector with weights to convert",
            found="'identity'",
        )


def plan_whole(opened: Checkpoint, sources: BaseModels) -> ModelPlan:
    """Of a folder with a language model, which is a delta if its norms say so."""
    weights = rename(opened.weights, ())
    check_kind(opened, opened.config, weights)
    rows = None
    if is_delta(weights):
        base = sources.need("base", opened, "a local folder of the LLaMA that these are differences to")
        weights = with_base(weights, base, opened.path)
        rows = language_config(base).vocab_size
    else:
        sources.refuse(opened, "base")
    sources.refuse(opened, "tuning_config")
    text = config_of(FAMILIES[str(opened.model_type)], opened.config, opened.path)
    tower = tower_of(opened, sources, opened.config)
    return compose(opened.config, rename(weights, RULES), text, tower, folders=(opened.path,), rows=rows)


@LAYOUTS.register_module("llava")
class OriginalLlava:
    about = "a whole LLaVA v1 or v1.5 of the original code, or a delta of it to a LLaMA"
    source = "github.com/haotian-liu/LLaVA, llava/model/llava_arch.py, apply_delta.py"

    def fits(self, opened: Checkpoint) -> bool:
        theirs = opened.model_type in FAMILIES and opened.model_type != "shikra" and "text_config" not in opened.config
        return theirs and _alone(opened) and any(name.startswith("model.layers.") for name in opened.weights)

    def named(self, opened: Checkpoint) -> Weights:
        return rename(opened.weights, RULES)

    def absent(self, opened: Checkpoint) -> dict[str, str]:
        return missing_parts(opened)

    def plan(self, opened: Checkpoint, sources: BaseModels) -> ModelPlan:
        return plan_whole(opened, sources)


@LAYOUTS.register_module("llava-projector")
class Projector:
    about = "mm_projector.bin: a LLaVA projector alone, from pretraining"
    source = "github.com/haotian-liu/LLaVA, llava/train/train.py (safe_save_model_for_hf_trainer)"

    def fits(self, opened: Checkpoint) -> bool:
        rest = [name for name in opened.weights if "mm_projector." not in name and "embed_tokens" not in name]
        return bool(opened.weights) and not rest and any("mm_projector." in name for name in opened.weights)

    def named(self, opened: Checkpoint) -> Weights:
        return rename(plain_names(opened.weights), RULES)

    def absent(self, opened: Checkpoint) -> dict[str, str]:
        return {**missing_parts(opened), "language_model": "--base"}

    def plan(self, opened: Checkpoint, sources: BaseModels) -> ModelPlan:
        sources.refuse(opened, "tuning_config")
        base = sources.need("base", opened, "a local folder of the language model that the projector was trained for")
        settings = opened.config or read_optional_config(opened.folder)
        text = language_config(base)
        if text.model_type not in FAMILIES.values():
            raise ModelError(
                where=base,
                field="model_type",
                expected="a LLaMA or Mistral for a projector",
                found=repr(text.model_type),
            )
        under = with_prefix(rename(open_folder(Path(base)), ()), language_names(text))
        weights = {**rename(under, RULES), **self.named(opened)}
        tower = tower_of(opened, sources, settings)
        return compose(settings, weights, text, tower, folders=(base,), rows=text.vocab_size)


@LAYOUTS.register_module("llava-lora")
class LlavaLora:
    about = "LoRA of the original LLaVA code: adapter_model with non_lora_trainables.bin"
    source = "github.com/haotian-liu/LLaVA, llava/model/builder.py, llava/train/train.py"

    def fits(self, opened: Checkpoint) -> bool:
        return ADAPTER_CONFIG in opened.names and opened.model_type in FAMILIES and not _alone(opened)

    def named(self, opened: Checkpoint) -> Weights:
        return rename(_once(plain_names(opened.weights)), RULES)

    def absent(self, opened: Checkpoint) -> dict[str, str]:
        return {**missing_parts(opened), "language_model": "--base, a language model or a whole LLaVA"}

    def plan(self, opened: Checkpoint, sources: BaseModels) -> ModelPlan:
        sources.refuse(opened, "tuning_config")
        base = sources.need("base", opened, "a local folder of the language model or LLaVA that LoRA was trained on")
        under = rename(open_folder(Path(base)), ())
        if is_delta(under):
            raise ModelError(
                "run mllm checkpoint convert on it first", where=base, expected="a whole base", found="a delta"
            )
        own = _once(plain_names(opened.weights))
        weights = merge_matrices({**under, **own}, read_scaling(Path(opened.path)))
        check_kind(opened, opened.config, weights)
        text = config_of(
            FAMILIES[str(opened.model_type)], {**read_optional_config(Path(base)), **opened.config}, opened.path
        )
        tower = tower_of(opened, sources, {**read_optional_config(Path(base)), **opened.config})
        return compose(
            opened.config,
            rename(weights, RULES),
            text,
            tower,
            folders=(opened.path, base),
            rows=under["model.embed_tokens.weight"].shape[0] if "model.embed_tokens.weight" in under else None,
        )


def _alone(opened: Checkpoint) -> bool:
    return ADAPTER_CONFIG not in opened.names and not matrices(opened.weights)


def _once(weights: Weights) -> Weights:
    """Some versions wrote `model.model.` where one was meant."""
    if any(name.startswith("model.model.") for name in weights):
        return {name.removeprefix("model."): lazy for name, lazy in weights.items()}
    return weights
