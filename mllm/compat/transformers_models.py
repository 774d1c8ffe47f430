"""transformers' models: what they say of themselves, and how they are made and initialised."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.initialization import no_init_weights as no_init_weights
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from mllm.compat.names import member


def attention_of(config: PreTrainedConfig) -> str | None:
    """The attention that a model of this config uses, as `attn_implementation` names it."""
    return member(config, "_attn_implementation")


def set_attention(config: PreTrainedConfig, name: str) -> None:
    """Choose the attention of models that are made of this config from now on."""
    member(config, "_attn_implementation")
    config._attn_implementation = name


def experts_of(config: PreTrainedConfig) -> str | None:
    """How a model of this config computes its experts, as `experts_implementation` names it."""
    return member(config, "_experts_implementation")


def known_attentions() -> list[str]:
    """All names that `attn_implementation` may have; not those of kernels on the hub."""
    return list(ALL_ATTENTION_FUNCTIONS.valid_keys())


def caps_scores_itself(model: PreTrainedModel) -> bool:
    """Whether a model is "eager" only since PyTorch's attention lacks a cap on scores; Gemma 2 is one.

    It takes its attention from transformers' interface all the same.
    """
    without = attention_of(model.config) == "eager" and not member(model, "_supports_sdpa")
    return without and member(model, "_supports_attention_backend")


def is_stateful(model: PreTrainedModel) -> bool:
    """Whether a model remembers more than keys and values."""
    return member(model, "_is_stateful")


def kept_in_float32(model: PreTrainedModel) -> set[str]:
    """Names of modules that keep their precision where others are quantised."""
    return set(member(model, "_keep_in_fp32_modules") or ())


def from_config(model_class: object, config: PreTrainedConfig, **chosen: object) -> Any:
    """A model of one class, no auto class, with random weights; `chosen`: `dtype` and `attn_implementation`."""
    return member(model_class, "_from_config")(config, **chosen)


def shard_by(model: PreTrainedModel, classes: Collection[str]) -> None:
    """Say which modules FSDP shards one by one, by the names of their classes: accelerate asks the model."""
    model._no_split_modules = set(classes)


def mark_initialised(module: nn.Module) -> None:
    """Mark a module and all inside it as initialised, so that transformers does not re-initialise them."""
    for part in module.modules():
        _mark(part)


def mark_what_was_read(model: nn.Module) -> None:
    """Mark the modules all of whose own weights were read from files."""
    for module in model.modules():
        own: list[Tensor] = [*module.parameters(recurse=False), *module.buffers(recurse=False)]
        if own and all(getattr(tensor, "_is_hf_initialized", False) for tensor in own):
            _mark(module)


def _mark(module: Any) -> None:
    module._is_hf_initialized = True


def positions_of_prompts(model: PreTrainedModel, input_ids: Tensor, arguments: dict[str, Any]) -> Tensor:
    """The position ids that `generate` gives a model's prompts; some models have several for each token."""
    return member(model, "_prepare_position_ids_for_generation")(input_ids, arguments)
