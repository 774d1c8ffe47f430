"""Parts of a model that a config describes though a folder holds the whole model: the folder's are used."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from mllm.fields import show

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

logger = logging.getLogger(__name__)

KEPT_AS = {"vision_tower": "vision_config", "language_model": "text_config"}
"""Where a model's config keeps what model_args calls otherwise."""


def say_replaced(folder: str, given: Mapping[str, object], config: PreTrainedConfig) -> None:
    """Warn of each part of `given` that differs from what the folder's model has, and name the others.

    Args:
        given: keys of model_args that the folder answers, with their values.
        config: of the folder's model.
    """
    different = {name: found for name, value in given.items() if (found := difference(name, value, config))}
    for name, (place, asked, held) in different.items():
        logger.warning(
            "model_args.%s is not used: %s is asked for as %s, but the model in %s has %s",
            name,
            place,
            show(asked),
            folder,
            held,
        )
    if alike := [name for name in given if name not in different]:
        logger.info("%s is used with its own %s, not the config's", folder, ", ".join(alike))


def difference(name: str, asked: object, config: PreTrainedConfig) -> tuple[str, Any, str] | None:
    """(place, value asked for, value held) of the first difference; None where there is none, or none can be known.

    Only what both sides say is compared: the name of a folder says nothing, nor does a setting that the model's config
    does not keep.
    """
    held: Any = getattr(config, KEPT_AS.get(name, name), None)
    return _difference(name, asked, held.to_dict() if hasattr(held, "to_dict") else held)


def _difference(place: str, asked: object, held: object) -> tuple[str, object, str] | None:
    if held is None or asked is None:
        return None
    if isinstance(held, Mapping):
        asked = {"type": asked} if isinstance(asked, str) and "type" in held else asked
        if not isinstance(asked, Mapping):
            return None
        values = cast("Mapping[str, Any]", held)
        found = (_difference(f"{place}.{name}", value, values.get(name)) for name, value in asked.items())
        return next((one for one in found if one), None)
    if isinstance(held, Sequence) and not isinstance(held, str):
        asked, held = _plain(asked), _plain(held)
        if isinstance(asked, list) and any(isinstance(one, list) for one in asked):
            return None  # of each of two vision towers
    return None if asked == held else (place, asked, show(held))


def _plain(value: object) -> Any:
    return [_plain(one) for one in value] if isinstance(value, (list, tuple)) else value
