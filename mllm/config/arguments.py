"""`RunArguments` from a config's `training_args`: what is checked, what is refused, how they are built."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import is_dataclass
from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, Annotated, Any, get_origin

from mllm.config.honoured import refuse
from mllm.config.training_fields import members_of, training_fields
from mllm.errors import ConfigError, nearest
from mllm.fields import Fits, OneOf, Range, in_field, show
from mllm.fields import check as check_value

if TYPE_CHECKING:
    from mllm.config.run_arguments import RunArguments

DEFAULTS: dict[str, object] = {
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
"""Where we differ from transformers' defaults, and why. For `output_dir` see `output_dir.py`."""

RENAMED = {
    "warmup_ratio": "warmup_steps, where a value below 1 is a share of all steps",
    "evaluation_strategy": "eval_strategy",
    "group_by_length": "data_args.collator_kwargs, with whose packing='rows' nothing is padded",
    "no_cuda": "use_cpu",
    "logging_dir": "the environment variable TENSORBOARD_LOGGING_DIR",
}
"""Arguments that transformers 5 dropped and that older commands still give."""


BOUNDS: dict[Range | Fits, tuple[str, ...]] = {
    Range(least=1): (
        *("per_device_train_batch_size", "per_device_eval_batch_size", "gradient_accumulation_steps"),
        *("eval_accumulation_steps", "save_total_limit", "dataloader_prefetch_factor", "torch_empty_cache_steps"),
        *("generation_max_length", "generation_num_beams", "ddp_timeout", "ddp_bucket_cap_mb", "num_samples"),
    ),
    Range(least=0): (
        *("learning_rate", "weight_decay", "max_grad_norm", "adam_epsilon", "eval_delay"),
        *("dataloader_num_workers", "neftune_noise_alpha", "max_nonfinite_steps"),
    ),
    Range(least=0, below=1): ("adam_beta1", "adam_beta2"),
    Range(least=0, most=1): ("label_smoothing_factor", "warmup_ratio"),
    Range(least=0, most=2**32 - 1): ("seed", "data_seed"),
    Range(above=0): ("num_train_epochs",),
    Fits("a number of steps above 0, whole or below 1 a share of all", lambda value: value > 0 and _is_steps(value)): (
        *("logging_steps", "save_steps", "eval_steps"),
    ),
    Fits("a number of steps, whole or below 1 a share of all", lambda value: value >= 0 and _is_steps(value)): (
        "warmup_steps",
    ),
    Range(least=-1): ("max_steps",),
}
"""What transformers takes and cannot work with is refused: the bounds of numbers, and the fields they bind."""


def check_training_arguments(training_args: Mapping[str, object]) -> None:
    """Raises:
    ConfigError: an unknown name, a value whose type its field does not take, or one that a run would not honour.
    """
    for name, value in training_args.items():
        field = training_fields().get(name)
        if field is None:
            raise ConfigError(f"unknown argument; {hint(name)}", field=f"training_args.{name}")
        about = field.metadata
        if "const" not in about or value is not about["const"]:
            in_field(f"training_args.{name}", check_value, value, _bounded(name, field.type))
        _check_choice(name, value, about)
        if name == "max_steps" and value == 0:
            raise ConfigError(
                field="training_args.max_steps",
                expected="a number of steps above 0, or -1 to train for num_train_epochs",
                found=show(value),
            )
    refuse(training_args, DEFAULTS)


def _bounded(name: str, annotation: Any) -> Any:
    """The annotation of a field with the bounds of its numbers; a dataclass is told what it is made of."""
    bounds = next((bounds for bounds, names in BOUNDS.items() if name in names), None)
    kinds = [
        Annotated[member, bounds]
        if bounds and member in (int, float)
        else Mapping[str, Any]
        if is_dataclass(member) or get_origin(member) is dict
        else member
        for member in members_of(annotation)
    ]
    return reduce(or_, kinds)


def _is_steps(value: float) -> bool:
    return value < 1 or value == int(value)


def _check_choice(name: str, value: object, metadata: Mapping[str, Any]) -> None:
    choices = metadata.get("choices")
    if choices is not None and value is not None:
        in_field(f"training_args.{name}", check_value, value, Annotated[str, OneOf(tuple(choices))])


def hint(name: str) -> str:
    """What the writer of an unknown argument may have meant."""
    return f"in transformers 5 it is {RENAMED[name]}" if name in RENAMED else nearest(name, training_fields())


def build_training_arguments(training_args: Mapping[str, Any]) -> RunArguments:
    """The arguments themselves. Choosing the device, and joining the process group of a launch, happens here.

    Batches in pinned memory, as they are by default, are copied while a GPU computes, unless `accelerator_config` says
    how.

    Raises:
        ConfigError: transformers refuses a value or a combination.
    """
    from mllm.config.run_arguments import RunArguments  # seconds, which `--help` and a typo need not wait for

    values = copy.deepcopy(dict(training_args))  # transformers changes the dicts it is given
    if values.get("report_to", "") is None:  # transformers takes the text alone
        values["report_to"] = "none"
    for name, field in RunArguments.__dataclass_fields__.items():
        _check_choice(name, values.get(name), field.metadata)  # also those that `training_fields` does not know
    try:
        args: Any = RunArguments(**values)
    except (TypeError, ValueError, NotImplementedError, FileNotFoundError) as error:
        on_cpu = "; --use_cpu True runs it on the CPU" if "use_cpu" in str(error) else ""
        raise ConfigError(f"{str(error).removesuffix('.')}{on_cpu}", field="training_args") from error
    args.do_eval = bool(values.get("do_eval"))  # transformers sets it where eval_strategy evaluates during training
    if not args.do_train:
        args.eval_strategy = type(args.eval_strategy).NO  # transformers asks for what it would evaluate all the same
    if args.dataloader_pin_memory and values.get("accelerator_config") is None:
        args.accelerator_config.non_blocking = True
    return args
