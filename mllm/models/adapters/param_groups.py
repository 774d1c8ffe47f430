"""Learning rates and weight decay by part of the model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from mllm.errors import ConfigError, nearest
from mllm.fields import NonNegative
from mllm.models.adapters.selection import GROUPS, embeddings, is_adapter, means
from mllm.models.parts import PART_PATTERNS, part_of

PRETRAINED = "pretrained"


@dataclass(frozen=True, slots=True, kw_only=True)
class ParamGroupOptions:
    """Where parameters differ from training_args.learning_rate and weight_decay.

    Attributes:
        learning_rate_groups: rate by part, group ("adapters", "embeddings") or regular expression; the first that
            means a parameter counts.
        learning_rate_pretraining_components: rate of what the vision tower and the language model brought with them.
        weight_decay_groups: as the first; biases and norms never decay.
    """

    learning_rate_groups: Mapping[str, NonNegative] = field(default_factory=dict)
    learning_rate_pretraining_components: NonNegative | None = None
    weight_decay_groups: Mapping[str, NonNegative] = field(default_factory=dict)


def split_param_groups(optimizer: Any, model: nn.Module, rates: ParamGroupOptions) -> str:
    """Split the groups of an optimizer that has not stepped yet; the table of what learns how fast.

    Raises:
        ConfigError: a name that means no trained parameter.
    """
    names = {id(parameter): name for name, parameter in model.named_parameters() if parameter.requires_grad}
    embedding_names = embeddings(model)
    rate = _choices("learning_rate_groups", rates.learning_rate_groups, names.values(), embedding_names)
    decay = _choices("weight_decay_groups", rates.weight_decay_groups, names.values(), embedding_names)
    if rates.learning_rate_pretraining_components is not None:
        brought = [name for name in names.values() if _is_pretrained(name)]
        if not brought:
            field = "model_args.learning_rate_pretraining_components"
            raise ConfigError(field=field, expected="a pretrained parameter that is trained", found="none")
        for name in brought:
            rate.setdefault(name, (PRETRAINED, rates.learning_rate_pretraining_components))
    groups: dict[tuple[Any, ...], dict[str, Any]] = {}
    for number, group in enumerate(optimizer.param_groups):
        for parameter in group["params"]:
            name = names[id(parameter)]
            label, lr = rate.get(name, ("", group["lr"]))
            chosen, weight_decay = decay.get(name, ("", group["weight_decay"]))
            if parameter.ndim < 2:  # a bias, or the scale of a norm
                chosen, weight_decay = "", group["weight_decay"]
            key = (label != "", label, chosen, number)  # those at the base rate first: the log shows the first rate
            new = groups.setdefault(key, {**group, "lr": lr, "weight_decay": weight_decay, "params": []})
            new["params"].append(parameter)
    ordered = sorted(groups)
    optimizer.param_groups[:] = [groups[key] for key in ordered]
    return _table([(key[1] or key[2] or "everything else", groups[key]) for key in ordered])


def _choices(
    argument: str, groups: Mapping[str, float], names: Iterable[str], embedding_names: set[str]
) -> dict[str, tuple[str, float]]:
    """Name of a parameter -> (name of its group, value)."""
    names = list(names)
    found: dict[str, tuple[str, float]] = {}
    for selector, value in groups.items():
        meant = [name for name in names if means(selector, name, embedding_names)]
        if not meant:
            known = {*PART_PATTERNS, *GROUPS}
            why = "nothing of it is trained" if selector in known else nearest(selector, known)
            raise ConfigError(
                why,
                field=f"model_args.{argument}",
                expected="a part, or a pattern, of trained parameters",
                found=f"{selector!r}, which matches none",
            )
        for name in meant:
            found.setdefault(name, (selector, value))
    return found


def _is_pretrained(name: str) -> bool:
    return part_of(name) in ("vision_tower", "language_model") and not is_adapter(name)


def _table(groups: Iterable[tuple[str, Mapping[str, Any]]]) -> str:
    counts: dict[tuple[str, float, float], int] = {}
    for label, group in groups:
        key = (label, group["lr"], group["weight_decay"])
        counts[key] = counts.get(key, 0) + sum(parameter.numel() for parameter in group["params"])
    lines = [f"{'group':32}{'parameters':>15}{'learning rate':>15}{'weight decay':>14}"]
    lines += [f"{label:32}{count:>15,}{lr:>15.3g}{decay:>14.3g}" for (label, lr, decay), count in counts.items()]
    return "\n".join(lines)
