"""Training arguments as words of a command line: what their options say in `--help`, and what a word means."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import is_dataclass
from types import NoneType
from typing import Any, Literal, get_origin

from mllm.config.arguments import DEFAULTS
from mllm.config.training_fields import COMPUTED, TrainingField, is_enum, members_of, training_fields
from mllm.errors import UsageError
from mllm.fields import show

TRUTHS = {
    **dict.fromkeys(("yes", "true", "t", "y", "1"), True),
    **dict.fromkeys(("no", "false", "f", "n", "0"), False),
}
SHOWN_DEFAULTS = {**DEFAULTS, "output_dir": "$AIP_CHECKPOINT_DIR, or outputs/NAME of NAME.py"}
"""Defaults where they are not those of transformers."""

HELP = {
    "output_dir": "Folder for the model, checkpoints, logs, answers and scores.",
    "do_eval": "After training, compute loss and scores on data_args.validation.",
    "do_predict": "After training, answer and score data_args.test and data_args.multitest.",
    "resume_from_checkpoint": "Continue from this checkpoint folder; auto: from the newest one in output_dir.",
    "use_cpu": "Run on the CPU, even if there is a GPU.",
    "max_steps": "Training steps; -1: as many as num_train_epochs takes.",
    "predict_with_generate": "Generate answers and score them; False: compute the loss alone.",
    "prediction_loss_only": "Compute the loss alone.",
}
"""Help texts where those of transformers speak of other programs."""


def is_switch(field: TrainingField) -> bool:
    """Whether the option may stand alone, which means True."""
    kinds = members_of(field.type)
    return bool in kinds or Literal[False] in kinds or "const" in field.metadata


def takes_many(field: TrainingField) -> bool:
    """Whether the option takes several words."""
    return any(get_origin(kind) is list for kind in members_of(field.type))


def option_help(field: TrainingField) -> str:
    """The help text, with the values that the option may have."""
    choices = field.metadata.get("choices") or [
        member.value for kind in members_of(field.type) if is_enum(kind) for member in kind
    ]
    listed = f" One of {', '.join(map(str, choices))}." if choices else ""
    said = HELP.get(field.name) or str(field.metadata.get("help", "")).replace("%%", "%")  # written for argparse
    return f"{said}{listed}".strip()


def default(field: TrainingField) -> str:
    """The default as `--help` shows it."""
    found = SHOWN_DEFAULTS.get(field.name, field.default)
    return "transformers' choice" if found is COMPUTED else str(found)


def flag_values(words: Mapping[str, str | Sequence[str] | None]) -> dict[str, object]:
    """The training arguments that the words say, as values that a config could hold; None and no words: not given.

    Raises:
        UsageError: a word is no value of its argument's type.
    """
    fields = training_fields()
    return {name: _value(fields[name], said) for name, said in words.items() if said not in (None, (), [])}


def _value(field: TrainingField, said: str | Sequence[str]) -> Any:
    kinds = _kinds(field)
    if not isinstance(said, str):
        # --report_to tensorboard means the text, not a list of one
        return said[0] if len(said) == 1 and str in kinds else list(said)
    if is_switch(field):
        if str in kinds:
            return {"true": True, "false": False}.get(said.lower(), said)
        if said.lower() not in TRUTHS:
            raise _wrong(field, "true or false", said)
        return TRUTHS[said.lower()]
    if _is_json(kinds):
        return _object(field, said)
    if kinds in ((int,), (float,)):
        try:
            return kinds[0](said)
        except ValueError as error:
            raise _wrong(field, "a whole number" if kinds == (int,) else "a number", said) from error
    return said


def _object(field: TrainingField, said: str) -> dict[str, Any]:
    try:
        value = json.loads(said)
    except json.JSONDecodeError as error:
        raise _wrong(field, "a JSON object", said) from error
    if not isinstance(value, dict):
        raise _wrong(field, "a JSON object", said)
    return value


def _wrong(field: TrainingField, expected: str, said: str) -> UsageError:
    return UsageError(field=f"--{field.name}", expected=expected, found=show(said))


def _kinds(field: TrainingField) -> tuple[Any, ...]:
    return tuple(kind for kind in members_of(field.type) if kind not in (None, NoneType))


def _is_json(kinds: tuple[object, ...]) -> bool:
    return str not in kinds and any(get_origin(kind) is dict or is_dataclass(kind) for kind in kinds)
