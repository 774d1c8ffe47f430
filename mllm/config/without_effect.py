"""Training arguments that somebody gave and that change nothing beside the others: named when a run begins."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from mllm.config.training_fields import training_fields

Given = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """What must hold for some arguments to have an effect, and what to say where it does not."""

    names: tuple[str, ...]
    holds: Callable[[Given], bool]
    otherwise: str


def _compares_models(given: Given) -> bool:
    asks = given["load_best_model_at_end"] or given["save_strategy"] == "best" or given["early_stopping"]
    return bool(asks) or given["lr_scheduler_type"] == "reduce_lr_on_plateau"


def _evaluates(given: Given) -> bool:
    return given["eval_strategy"] != "no" or bool(given["eval_on_start"])


def _has_no_betas(given: Given) -> bool:
    return any(name in str(given["optim"]) for name in ("adafactor", "sgd", "adagrad", "rmsprop", "lomo"))


IN_TRAINING = (
    Need(
        names=("eval_steps",), holds=lambda given: given["eval_strategy"] == "steps", otherwise="eval_strategy='steps'"
    ),
    Need(
        names=("eval_delay",),
        holds=lambda given: given["eval_strategy"] != "no",
        otherwise="eval_strategy='steps' or 'epoch'",
    ),
    Need(
        names=("save_steps",), holds=lambda given: given["save_strategy"] == "steps", otherwise="save_strategy='steps'"
    ),
    Need(
        names=("save_total_limit", "save_only_model"),
        holds=lambda given: given["save_strategy"] != "no",
        otherwise="save_strategy='steps', 'epoch' or 'best'",
    ),
    Need(
        names=("logging_steps",),
        holds=lambda given: given["logging_strategy"] == "steps",
        otherwise="logging_strategy='steps'",
    ),
    Need(
        names=("metric_for_best_model", "greater_is_better"),
        holds=lambda given: _compares_models(given) and _evaluates(given),
        otherwise="load_best_model_at_end, save_strategy='best' or early_stopping, and an eval_strategy",
    ),
    Need(names=("num_train_epochs",), holds=lambda given: given["max_steps"] <= 0, otherwise="no max_steps"),
    Need(
        names=("adam_beta1", "adam_beta2"),
        holds=lambda given: not _has_no_betas(given),
        otherwise="an optimizer with betas in optim",
    ),
    Need(
        names=("adam_epsilon",),
        holds=lambda given: not _has_no_betas(given) and "lion" not in str(given["optim"]),
        otherwise="an optimizer of the Adam family in optim",
    ),
    Need(
        names=("gradient_checkpointing_kwargs",),
        holds=lambda given: bool(given["gradient_checkpointing"]),
        otherwise="gradient_checkpointing",
    ),
    Need(
        names=("activation_checkpointing_kwargs",),
        holds=lambda given: bool(given["activation_checkpointing"]),
        otherwise="activation_checkpointing",
    ),
    Need(
        names=("dataloader_persistent_workers", "dataloader_multiprocessing_context", "dataloader_in_order"),
        holds=lambda given: given["dataloader_num_workers"] > 0,
        otherwise="dataloader_num_workers above 0",
    ),
    Need(
        names=("run_name", "project", "trackio_space_id", "trackio_bucket_id", "trackio_static_space_id"),
        holds=lambda given: given["report_to"] not in (None, "none", ["none"], []),
        otherwise="a reporter in report_to",
    ),
)
NEEDS = (
    Need(
        names=("num_samples",), holds=lambda given: bool(given["do_predict"]), otherwise="do_predict, or mllm predict"
    ),
    Need(
        names=("resume",),
        holds=lambda given: bool(given["do_eval"] or given["do_predict"]),
        otherwise="do_eval or do_predict",
    ),
    Need(
        names=("overwrite_output_dir", "mirror_dir"),
        holds=lambda given: bool(given["do_train"]),
        otherwise="do_train, or mllm train",
    ),
)


def without_effect(training_args: Given, *, early_stopping: bool) -> Iterator[str]:
    """What to say of each argument that has another value than by default, and no effect in this run."""
    fields = training_fields()
    values: dict[str, Any] = {name: field.default for name, field in fields.items()}
    values |= {**training_args, "early_stopping": early_stopping}
    for need in (*NEEDS, *(IN_TRAINING if values["do_train"] else ())):
        for name in need.names:
            given = training_args.get(name)
            if given is not None and given != fields[name].default and not need.holds(values):
                yield f"training_args.{name} has no effect: it needs {need.otherwise}"
