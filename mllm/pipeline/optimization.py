"""What training arguments ask of optimizer, schedule and machine, tried before anything is loaded."""

from __future__ import annotations

import copy
import logging
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch.optim.lr_scheduler import LambdaLR
from transformers import Seq2SeqTrainer, Seq2SeqTrainingArguments, get_scheduler
from transformers.integrations import get_reporting_integration_callbacks
from transformers.trainer_utils import SchedulerType
from transformers.training_args import OptimizerNames

from mllm.compat.transformers_trainer import reporters, schedule_function
from mllm.errors import ConfigError, nearest
from mllm.fields import NonNegative, check, in_field, show
from mllm.signatures import parameters_of

logger = logging.getLogger(__name__)

WITHOUT_WARMUP = ("constant", "reduce_lr_on_plateau", "greedy")
WITHOUT_ARGUMENTS = ("constant", "constant_with_warmup")
TRIED_STEPS = 100
"""Of the schedule that is tried."""


def check_training(args: Seq2SeqTrainingArguments) -> None:
    """Check `optim`, `lr_scheduler_type` and what goes with them, and that the machine can do what is asked for.

    Raises:
        ConfigError: a library is missing, or an argument is one that nothing reads.
    """
    if args.n_gpu > 1:
        raise ConfigError(
            "one process would split each batch and separate images from their text: use accelerate launch, "
            "or set CUDA_VISIBLE_DEVICES to one GPU",
            expected="one GPU for each process",
            found=str(args.n_gpu),
        )
    if args.fp16 and args.device.type == "cpu":
        raise ConfigError(
            "on a CPU there is bf16", field="training_args.fp16", expected="False without a GPU", found="True"
        )
    checkpointing: Any = args.activation_checkpointing_kwargs or {}
    if checkpointing.get("offload") and args.device.type == "cpu":
        raise ConfigError(
            field="training_args.activation_checkpointing_kwargs.offload",
            expected="False without a GPU",
            found=show(checkpointing["offload"]),
        )
    _check_optimizer(args)
    _check_schedule(args)


def check_reporting(args: Seq2SeqTrainingArguments) -> None:
    """
    Raises:
        ConfigError: `report_to` names what nobody knows, or what is not installed.
    """
    known = reporters()
    for name in args.report_to or ():
        if name not in known:
            raise ConfigError(
                nearest(name, known),
                field="training_args.report_to",
                expected="a reporter that transformers knows",
                found=show(name),
            )
    with _named("report_to"):
        for kind in get_reporting_integration_callbacks(args.report_to):
            kind()


def _check_optimizer(args: Seq2SeqTrainingArguments) -> None:
    with _named("optim"):
        _settings(args, "")
    with _named("optim_args"):
        _settings(args, args.optim_args)
    for name in _names(args.optim_args):
        if not _reads(args, name):
            raise ConfigError(
                field="training_args.optim_args",
                expected=f"an argument of {OptimizerNames(args.optim).value}",
                found=repr(name),
            )


def _check_schedule(args: Seq2SeqTrainingArguments) -> None:
    kind = SchedulerType(args.lr_scheduler_type).value
    if args.warmup_steps and kind in WITHOUT_WARMUP:
        raise ConfigError(
            "or choose another lr_scheduler_type",
            field="training_args.warmup_steps",
            expected=f"0, as a {kind} schedule has no warm-up",
            found=str(args.warmup_steps),
        )
    if args.lr_scheduler_kwargs and kind in WITHOUT_ARGUMENTS:
        raise ConfigError(
            field="training_args.lr_scheduler_kwargs",
            expected=f"nothing, as a {kind} schedule takes none",
            found=show(args.lr_scheduler_kwargs),
        )
    known = parameters_of(schedule_function(args.lr_scheduler_type))
    given: Any = args.lr_scheduler_kwargs or {}
    in_field("training_args.lr_scheduler_kwargs", check, given, Mapping)
    for name, value in given.items():
        field = f"training_args.lr_scheduler_kwargs.{name}"
        if name in known:
            in_field(field, check, value, known[name].annotation)
        if isinstance(value, (int, float)):
            in_field(field, check, value, NonNegative | bool)
    idle = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=args.learning_rate)
    with _named("lr_scheduler_kwargs"):
        get_scheduler(
            args.lr_scheduler_type,
            optimizer=idle,
            num_warmup_steps=args.get_warmup_steps(TRIED_STEPS),
            num_training_steps=TRIED_STEPS,
            scheduler_specific_kwargs=given,
        )


def check_learns(args: Seq2SeqTrainingArguments, rates: Iterable[float | None]) -> None:
    """Check that some of the learning `rates` of a run is not 0.

    Raises:
        ConfigError: the run would change nothing.
    """
    if not any(rates):
        raise ConfigError(
            "the run would change nothing",
            field="training_args.learning_rate",
            expected="a rate above 0 for some parameter",
            found=show(args.learning_rate),
        )


def check_schedule_learns(args: Seq2SeqTrainingArguments, scheduler: Any, steps: int) -> None:
    """Check the learning rates of all groups at all of a run's `steps`; says where a warm-up is not over by then.

    Raises:
        ConfigError: all of them are 0.
    """
    check_learns(args, (group.get("initial_lr", group["lr"]) for group in scheduler.optimizer.param_groups))
    if not isinstance(scheduler, LambdaLR):
        return
    groups = [(rate, at) for rate, at in zip(scheduler.base_lrs, scheduler.lr_lambdas, strict=True) if rate]
    if not any(at(step) for step in range(steps) for _, at in groups):
        raise ConfigError(
            f"at each of the {steps} steps of the run the learning rate would be 0: it would change nothing",
            field="training_args.warmup_steps" if args.warmup_steps else "training_args.lr_scheduler_type",
        )
    if (warmup := args.get_warmup_steps(steps)) >= steps:
        logger.info(
            "warmup_steps is %d, but the run has only %d steps: it never reaches its full learning rate", warmup, steps
        )


def _settings(args: Seq2SeqTrainingArguments, optim_args: str | None) -> str:
    """The optimizer's class and arguments in words."""
    asked = copy.copy(args)
    asked.optim_args = optim_args
    return repr(Seq2SeqTrainer.get_optimizer_cls_and_kwargs(asked))


def _names(optim_args: str | None) -> list[str]:
    return [pair.partition("=")[0].strip() for pair in optim_args.split(",")] if optim_args else []


def _reads(args: Seq2SeqTrainingArguments, name: str) -> bool:
    """Whether the optimizer becomes another one, or none, by values of this argument."""
    found: set[str] = set()
    for optim_args in ("", f"{name}=0.123", f"{name}=true"):
        try:
            found.add(_settings(args, optim_args))
        except (TypeError, ValueError, AttributeError):
            return True
    return len(found) > 1


@contextmanager
def _named(field: str) -> Generator[None, None, None]:
    """Raises:
    ConfigError: for what transformers says of this field.
    """
    try:
        yield
    except (ImportError, RuntimeError, TypeError, ValueError, AttributeError, KeyError) as error:
        raise ConfigError(" ".join(str(error).split()), field=f"training_args.{field}") from error
