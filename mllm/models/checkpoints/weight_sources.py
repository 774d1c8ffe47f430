"""Weights and configs of the models that a checkpoint is made of, from their own folders, read lazily."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import CONFIG_MAPPING, AutoConfig, AutoModelForCausalLM, PreTrainedConfig

from mllm.errors import ModelError, nearest
from mllm.fields import show
from mllm.models.arguments import OLD_NAMES
from mllm.models.auto import build, read_config
from mllm.models.checkpoints.lazy import Weights, open_folder
from mllm.models.components import local_folder
from mllm.models.vision.encoders import vision_half

COMPUTED = re.compile(r"(rotary_emb\.inv_freq|\.masked_bias|\.attn\.bias|\.attention\.bias|\.position_ids)$")
"""Buffers that older versions of the libraries saved and newer ones compute."""
OTHER_HALF = re.compile(r"^(text_model\.|(visual|text)_projection\.|logit_(scale|bias)$)")
"""What a two-tower model has beside its vision encoder."""
LANGUAGE_MODEL, ENCODER = "language_model.", "vision_tower.encoder."


def rename(weights: Weights, rules: Iterable[tuple[str, str]]) -> Weights:
    """Each name by the first rule (regular expression, replacement) that it matches; without computed buffers."""
    compiled = [(re.compile(pattern), replacement) for pattern, replacement in rules]
    found: Weights = {}
    for name, lazy in weights.items():
        if COMPUTED.search(name):
            continue
        for pattern, replacement in compiled:
            if pattern.search(name):
                name = pattern.sub(replacement, name)
                break
        found[name] = lazy
    return found


def vision_config(folder: str) -> Any:
    return vision_half(read_config(local_folder("vision_tower", folder)))


def vision_weights(folder: str) -> Weights:
    """The vision encoder of a folder, which may hold a two-tower model, under our names."""
    found = {name: lazy for name, lazy in open_folder(Path(folder)).items() if not OTHER_HALF.search(name)}
    return rename(found, [(r"^(vision_model\.)?", ENCODER)])


def language_config(folder: str) -> Any:
    return read_config(local_folder("base", folder))


def language_weights(folder: str, names: Collection[str]) -> Weights:
    """A causal language model's folder under our names; `names` are those that its class has."""
    found = rename(open_folder(Path(folder)), [(r"^embed_out\.", "lm_head.")])
    return {LANGUAGE_MODEL + name: lazy for name, lazy in with_prefix(found, names).items()}


def with_prefix(weights: Weights, names: Collection[str]) -> Weights:
    """Files of a model without its head leave out the prefix that all its names then have in common."""
    prefixes = {name.partition(".")[0] for name in names if "." in name} - {"lm_head"}
    prefix = f"{prefixes.pop()}." if len(prefixes) == 1 else ""
    return {prefix + name if name not in names and prefix + name in names else name: t for name, t in weights.items()}


def language_names(config: PreTrainedConfig) -> tuple[str, ...]:
    """The names of the weights of a causal language model."""
    with torch.device("meta"):
        return tuple(build(AutoModelForCausalLM, config).state_dict())


def config_of(model_type: str, settings: Mapping[str, object], path: str) -> Any:
    """A transformers config of those settings that its family knows; others belong to the checkpoint's own code.

    Raises:
        ModelError: no such family.
    """
    if model_type not in CONFIG_MAPPING:
        raise ModelError(
            nearest(model_type, CONFIG_MAPPING),
            where=path,
            field="model_type",
            expected="a language model that transformers knows",
            found=show(model_type),
        )
    known = {*AutoConfig.for_model(model_type).to_dict(), *OLD_NAMES} - {"model_type", "transformers_version"}
    return AutoConfig.for_model(model_type, **{name: value for name, value in settings.items() if name in known})
