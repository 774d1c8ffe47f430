"""Which layers and parameters of a model a name in a config means: a part, or a regular expression."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from torch import nn
from transformers.pytorch_utils import Conv1D

from mllm.compat.hqq import LINEAR
from mllm.errors import ConfigError, nearest
from mllm.models.parts import PART_PATTERNS, is_plain_linear, part_of

if TYPE_CHECKING:
    from mllm.models.base import VisionLanguageModel

GROUPS = {
    "embeddings": "the language model's input embeddings and its head",
    "adapters": "what adapters add",
}
"""Further names for parameters."""
_LOW_RANK = re.compile(r"\.lora_(A|B|magnitude_vector|embedding_A|embedding_B)\b")


def is_adapter(name: str) -> bool:
    return _LOW_RANK.search(name) is not None


def unadapted_name(name: str) -> str:
    """The name that a parameter had before its layer was adapted."""
    return name.replace(".base_layer.", ".")


def embeddings(model: Any) -> set[str]:
    """Names of the parameters of the language model's input embeddings and head."""
    ends = (model.get_input_embeddings(), model.get_output_embeddings())
    theirs = {id(parameter) for end in ends if end is not None for parameter in end.parameters()}
    return {name for name, parameter in model.named_parameters() if id(parameter) in theirs}


def means(selector: str, name: str, embedding_names: Collection[str] = ()) -> bool:
    """Whether `selector`, a part, a group or a regular expression, means the parameter or layer `name`."""
    if selector in PART_PATTERNS:
        return part_of(name) == selector
    if selector in GROUPS:
        return is_adapter(name) if selector == "adapters" else name in embedding_names
    return re.search(selector, unadapted_name(name)) is not None


def linear_layers(model: VisionLanguageModel, targets: Sequence[str]) -> list[str]:
    """Names of the linear layers that the targets mean; a part means all of its own but the head.

    Raises:
        ConfigError: a target that means none, or the vision tower without naming it.
    """
    head = model.get_output_embeddings()
    layers = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, (nn.Linear, Conv1D)) or type(module).__name__ == LINEAR
    }
    # a layer of the vision tower that is not trainable by now is frozen by name, or no feature depends on it
    usable = [
        name
        for name, layer in layers.items()
        if is_plain_linear(name, layer) and (part_of(name) != "vision_tower" or _trainable(layer))
    ]
    found: set[str] = set()
    for target in targets:
        meant = [name for name in usable if means(target, name)]
        if target in PART_PATTERNS:
            meant = [name for name in meant if layers[name] is not head]
        _check("targets", target, meant, targets, layers)
        found.update(meant)
    return [name for name in usable if name in found]


def selected_parameters(model: nn.Module, selectors: Sequence[str], argument: str) -> set[str]:
    """Names of the parameters that the selectors mean, of those that can be trained.

    Raises:
        ConfigError: a selector that means none, or the vision tower without naming it.
    """
    embedding_names = embeddings(model)
    names = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    found: set[str] = set()
    for selector in selectors:
        meant = [name for name in names if means(selector, name, embedding_names)]
        _check(argument, selector, meant, selectors, (name for name, _ in model.named_parameters()))
        found.update(meant)
    return found


def _trainable(layer: nn.Module) -> bool:
    return any(parameter.requires_grad for parameter in layer.parameters(recurse=False))


def _check(argument: str, target: str, meant: Sequence[str], targets: Sequence[str], known: Iterable[str]) -> None:
    if not meant:
        names = list(known)
        if any(means(target, name) for name in names):
            raise ConfigError(
                field=f"adapters.{argument}",
                expected="layers that can be trained",
                found=f"{target!r}, which matches only layers that are frozen (model_args.freeze), quantised, "
                "unused by the features, or whose weights the model reads without calling them",
            )
        endings = {name.rpartition(".")[2] for name in names} if argument == "targets" else set()
        raise ConfigError(
            nearest(target, {*PART_PATTERNS, *endings}),
            field=f"adapters.{argument}",
            expected="a part of the model, or a pattern of its names",
            found=f"{target!r}, which matches nothing",
        )
    seen = [name for name in meant if part_of(name) == "vision_tower"]
    if seen and "vision_tower" not in targets and "vision" not in target:
        raise ConfigError(
            f"adapters.{argument}: {target!r} matches {len(seen)} names in the vision tower too, such as {seen[0]}; "
            f"write 'language_model.*{target}', or add 'vision_tower' if you mean it"
        )
