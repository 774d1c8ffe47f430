"""`Seq2SeqTrainingArguments` from a config's `training_args` and from command-line flags."""

from __future__ import annotations

import copy
import json
from argparse import SUPPRESS, Action, ArgumentTypeError, RawDescriptionHelpFormatter
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from pathlib import Path
from types import UnionType
from typing import Any, Literal, NoReturn, Union, get_args, get_origin, get_type_hints

from accelerate.parallelism_config import ParallelismConfig
from transformers import HfArgumentParser, Seq2SeqTrainingArguments
from transformers.hf_argparser import string_to_bool

from mllm.errors import ConfigError, nearest

DEFAULTS: dict[str, Any] = {
    # the collator takes whole Items; transformers would drop every field that no model's forward names
    "remove_unused_columns": False,
    # a wrapper such as LoRA's hides the forward signature from which transformers would guess this
    "label_names": ["labels"],
    # metrics read answers; without it an evaluation gathers the logits of the whole vocabulary instead
    "predict_with_generate": True,
    # our models use every trained parameter in every batch; looking for unused ones costs time in each step
    "ddp_find_unused_parameters": False,
    # transformers 5 reports to nothing by itself
    "report_to": "tensorboard",
}
"""Where we differ from transformers' defaults, and why. `output_dir` is `outputs/<name of the config file>`."""

RENAMED = {
    "warmup_ratio": "warmup_steps, where a value below 1 is a share of all steps",
    "evaluation_strategy": "eval_strategy",
    "group_by_length": "data_args.collator_kwargs, with whose packing='rows' nothing is padded",
    "no_cuda": "use_cpu",
    "overwrite_output_dir": "resume_from_checkpoint='auto' to go on, or another output_dir",
    "logging_dir": "the environment variable TENSORBOARD_LOGGING_DIR",
}
"""Arguments that transformers 5 dropped and that older commands still give."""

_HINTS: dict[str, Any] = get_type_hints(Seq2SeqTrainingArguments)
_FIELDS = {field.name: field for field in fields(Seq2SeqTrainingArguments) if field.init}
SECRETS = tuple(name for name in _FIELDS if name.endswith("_token"))
"""Never written to a file."""


class FlagParser(HfArgumentParser):
    """One flag for each field of `Seq2SeqTrainingArguments`; flags that are not given leave no trace in the result."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(
            Seq2SeqTrainingArguments,  # type: ignore[arg-type]  # annotated as a NewType, takes any dataclass
            allow_abbrev=False,
            formatter_class=RawDescriptionHelpFormatter,
            **kwargs,
        )
        for action in self._actions:
            if action.dest in _FIELDS:
                _loosen(action)

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"command line: {message}")


def given(parsed: Mapping[str, Any]) -> dict[str, Any]:
    """The training arguments among the parsed flags, as plain values that a config could hold."""
    return {name: _plain(name, parsed[name]) for name in parsed if name in _FIELDS}


def check(training_args: Mapping[str, Any]) -> None:
    """Raises:
    ConfigError: an unknown name, or a value whose type its field does not take.
    """
    for name, value in training_args.items():
        if name not in _FIELDS:
            raise ConfigError(f"training_args: unknown argument {name!r}; {hint(name)}")
        about = _FIELDS[name].metadata
        if not _fits(value, _HINTS[name]) and not ("const" in about and value is about["const"]):
            expected = " or ".join(_name(member) for member in _members(_HINTS[name]))
            raise ConfigError(f"training_args.{name}: expected {expected}, found {value!r}")
        if "choices" in about and value is not None and value not in about["choices"]:
            raise ConfigError(f"training_args.{name}: expected one of {', '.join(about['choices'])}, found {value!r}")


def hint(name: str) -> str:
    """What the writer of an unknown argument may have meant."""
    return f"in transformers 5 it is {RENAMED[name]}" if name in RENAMED else nearest(name, _FIELDS)


def build(training_args: Mapping[str, Any]) -> Seq2SeqTrainingArguments:
    """The arguments themselves. Choosing the device, and joining the process group of a launch, happens here.

    Batches in pinned memory, as they are by default, are copied while a GPU computes, unless `accelerator_config` says
    how.

    Raises:
        ConfigError: transformers refuses a value or a combination.
    """
    values = copy.deepcopy(dict(training_args))  # transformers changes the dicts it is given
    if isinstance(values.get("parallelism_config"), dict):
        values["parallelism_config"] = ParallelismConfig(**values["parallelism_config"])
    try:
        args: Any = Seq2SeqTrainingArguments(**values)
    except (TypeError, ValueError, NotImplementedError, FileNotFoundError) as error:
        raise ConfigError(f"training_args: {error}") from error
    if args.dataloader_pin_memory and values.get("accelerator_config") is None:
        args.accelerator_config.non_blocking = True
    return args


def _loosen(action: Action) -> None:
    """Mend what keeps a flag from saying all that its field can hold, and drop the default."""
    members = _members(_HINTS[action.dest])
    default = {**DEFAULTS, "output_dir": "outputs/NAME of NAME.py"}.get(action.dest, action.default)
    action.default = SUPPRESS
    action.required = False
    if action.nargs == 0:  # --no_x
        return
    choices = f" One of {', '.join(map(str, action.choices))}." if action.choices else ""
    action.help = f"{action.help or ''}{choices} (default: {str(default).replace('%', '%%')})".lstrip()
    action.metavar = "VALUE"
    if str in members and any(member is bool or member == Literal[False] for member in members):
        action.type = _bool_or_text
    elif get_origin(action.type) is dict or is_dataclass(action.type):
        action.type = _json  # one text cannot be turned into these
    if action.type in (string_to_bool, _bool_or_text):
        action.nargs, action.const = "?", True
    if any(get_origin(member) is list for member in members):
        action.nargs = "+"


def _bool_or_text(text: str) -> bool | str:
    return {"true": True, "false": False}.get(text.lower(), text)


def _json(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise ArgumentTypeError(f"expected a JSON object, found {text!r}: {error}") from error
    if not isinstance(value, dict):
        raise ArgumentTypeError(f"expected a JSON object, found {text!r}")
    return value


def _plain(name: str, value: Any) -> Any:
    if isinstance(value, list):
        members = [_plain(name, member) for member in value]
        # --report_to tensorboard means the text, not a list of one
        return members[0] if len(members) == 1 and str in _members(_HINTS[name]) else members
    if isinstance(value, Enum):
        return value.value
    return str(value) if isinstance(value, Path) else value


def _members(annotation: Any) -> tuple[Any, ...]:
    """The types of a union; of `Enum | str` only the enum, whose values are the texts it means."""
    members = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)
    return tuple(m for m in members if m is not str or not any(map(_is_enum, members)))


def _is_enum(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Enum)


def _fits(value: object, annotation: Any) -> bool:
    return any(_fits_one(value, member) for member in _members(annotation))


def _fits_one(value: object, kind: Any) -> bool:
    if kind is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if get_origin(kind) is Literal:
        return value in get_args(kind)
    if get_origin(kind) is list:
        (member,) = get_args(kind)
        return isinstance(value, (list, tuple)) and all(_fits(entry, member) for entry in value)
    if get_origin(kind) is dict or is_dataclass(kind):
        return isinstance(value, Mapping)
    if _is_enum(kind):
        return value in _values(kind)
    return isinstance(value, kind)


def _values(kind: type[Enum]) -> list[object]:
    return [member.value for member in kind]


def _name(kind: Any) -> str:
    if _is_enum(kind):
        return f"one of {', '.join(map(str, _values(kind)))}"
    if kind is type(None):
        return "None"
    return str(kind) if get_args(kind) else kind.__name__
