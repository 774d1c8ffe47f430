"""How a kind of model is spoken to where the config does not say: known before the model is built, since the
vocabulary grows by it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from mllm.registry import MODELS
from mllm.types import IMAGE

Build = TypeVar("Build", bound=Callable[..., Any])
Rule = Callable[[Mapping[str, Any]], "Speech"]
"""model_args, without `type`, -> Speech."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Speech:
    """Names of the region codec and the template, and the tokens that mark pictures in the text."""

    codec: str = "shikra"
    template: str = "vicuna_v1"
    tokens: tuple[str, ...] = (IMAGE,)


def speaks(rule: Rule) -> Callable[[Build], Build]:
    """Decorator of a registered model with a Speech of its own."""

    def mark(build: Build) -> Build:
        marked: Any = build
        marked.speech = rule
        return build

    return mark


def speech_of(model_args: Mapping[str, Any]) -> Speech:
    """
    Raises:
        ConfigError: an unknown `type` of model.
    """
    build = MODELS.find(model_args.get("type"))
    rule: Rule | None = getattr(build, "speech", None)
    return rule({name: value for name, value in model_args.items() if name != "type"}) if rule else Speech()
