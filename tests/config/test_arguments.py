"""Every training argument can be given as a flag, and a value of the wrong type is refused."""

from __future__ import annotations

import dataclasses
from enum import Enum
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest

from mllm.config.arguments import DEFAULTS, RENAMED, build_training_arguments, check_training_arguments
from mllm.config.command_line import parse as parse_words
from mllm.config.honoured import REFUSED
from mllm.config.run_arguments import RunArguments
from mllm.errors import ConfigError

FIELDS = {field.name: field for field in dataclasses.fields(RunArguments)}
HINTS = get_type_hints(RunArguments)

# What only flags with their own syntax take.
SAMPLES: dict[str, tuple[list[str], Any]] = {
    "liger_kernel_config": (['{"rope": true}'], {"rope": True}),
    "parallelism_config": (['{"dp_shard_size": 1}'], {"dp_shard_size": 1}),
    "debug": (["underflow_overflow"], "underflow_overflow"),
    "report_to": (["tensorboard", "wandb"], ["tensorboard", "wandb"]),
    "optim_target_modules": (["q_proj", "v_proj"], ["q_proj", "v_proj"]),
    "include_num_input_tokens_seen": (["non_padding"], "non_padding"),
    "trackio_static_space_id": (["false"], False),
    "accelerator_config": (['{"non_blocking": true}'], '{"non_blocking": true}'),
    "activation_checkpointing_kwargs": (['{"every_n_layers": 2}'], '{"every_n_layers": 2}'),
    "gradient_checkpointing_kwargs": (['{"use_reentrant": true}'], '{"use_reentrant": true}'),
    "train_sampling_strategy": (["sequential"], "sequential"),
    "optim": (["sgd"], "sgd"),
}


def sample(name: str) -> tuple[list[str], Any]:
    if name in SAMPLES:
        return SAMPLES[name]
    if "choices" in FIELDS[name].metadata:
        return [list(FIELDS[name].metadata["choices"])[-1]], list(FIELDS[name].metadata["choices"])[-1]
    members = get_args(HINTS[name]) if get_origin(HINTS[name]) is not Literal and get_args(HINTS[name]) else ()
    for kind in (HINTS[name], *members):
        if kind is bool:
            return (["false"], False) if FIELDS[name].default is True else (["true"], True)
        if kind is int:
            return ["7"], 7
        if kind is float:
            return ["0.5"], 0.5
        if isinstance(kind, type) and issubclass(kind, Enum):
            return [list(kind)[-1].value], list(kind)[-1].value
        if get_origin(kind) is list:
            return ["a", "b"], ["a", "b"]
    return ["text"], "text"


def parse(*words: str) -> dict[str, Any]:
    return dict(parse_words(["x.py", *words]).flags)


def test_no_flag_leaves_no_trace() -> None:
    assert parse() == {}


@pytest.mark.parametrize("name", FIELDS)
def test_every_argument_has_a_flag(name: str) -> None:
    words, expected = sample(name)
    assert parse(f"--{name}", *words) == {name: expected}
    assert parse(f"--{name.replace('_', '-')}", *words) == {name: expected}
    if name in REFUSED and name != "remove_unused_columns":  # which is False by default here, as the sample is
        with pytest.raises(ConfigError, match=f"training_args.{name}: not supported"):
            check_training_arguments({name: expected})
    else:
        check_training_arguments({name: expected})


@pytest.mark.parametrize("name", [name for name in FIELDS if HINTS[name] in (bool, bool | None)])
def test_switches(name: str) -> None:
    assert parse(f"--{name}") == {name: True}
    assert parse(f"--{name}", "no") == {name: False}
    if FIELDS[name].default is True:
        assert parse(f"--no_{name}") == {name: False}


def test_a_list_of_one_and_a_number_below_zero() -> None:
    assert parse("--report_to", "none", "--max_steps", "-1") == {"report_to": "none", "max_steps": -1}
    assert parse("--label_names", "labels") == {"label_names": ["labels"]}


def test_json() -> None:
    assert parse("--parallelism_config", '{"dp_shard_size": 1}') == {"parallelism_config": {"dp_shard_size": 1}}
    with pytest.raises(ConfigError, match="expected a JSON object, found str '1'"):
        parse("--parallelism_config", "1")
    with pytest.raises(ConfigError, match=r"expected a JSON object, found str '\{'"):
        parse("--liger_kernel_config", "{")


def test_our_defaults_are_arguments_and_the_old_names_are_not() -> None:
    check_training_arguments(DEFAULTS)
    assert set(DEFAULTS) <= set(FIELDS)
    assert not set(RENAMED) & set(FIELDS)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("max_steps", 1.5, "expected a whole number of at least -1, found float '1.5'"),
        ("max_steps", True, "expected a whole number of at least -1, found bool 'True'"),
        ("learning_rate", "2e-5", "expected a number of at least 0, found str '2e-5'"),
        ("bf16", "yes", "expected True or False, found str 'yes'"),
        ("tf32", 1, "expected True or False or None, found int '1'"),
        ("label_names", "labels", r"expected a list of texts or None, found str 'labels'"),
        ("label_names", [1], r"label_names.0: expected a text, found int '1'"),
        ("lr_scheduler_kwargs", [1], "expected a dict or a text or None"),
        ("save_strategy", None, "expected one of 'no', 'steps', 'epoch', 'best', found nothing"),
        ("ddp_backend", "mpii", "expected one of 'nccl', 'gloo', 'mpi', .*, found str 'mpii'; did you mean 'mpi'"),
        ("learning_rate", float("nan"), "learning_rate: expected a number of at least 0, found float 'nan'"),
        ("learning_rate", -1, "learning_rate: expected a number of at least 0, found int '-1'"),
        ("weight_decay", float("inf"), "weight_decay: expected a number of at least 0, found float 'inf'"),
        ("per_device_train_batch_size", 0, "batch_size: expected a whole number of at least 1, found int '0'"),
        ("gradient_accumulation_steps", -2, "steps: expected a whole number of at least 1, found int '-2'"),
        ("num_train_epochs", 0, "num_train_epochs: expected a number above 0, found int '0'"),
        ("adam_beta1", 1.5, "adam_beta1: expected a number of at least 0 and below 1, found float '1.5'"),
        ("generation_num_beams", 0, "expected a whole number of at least 1 or None, found int '0'"),
        ("seed", -1, "seed: expected a whole number from 0 to 4,294,967,295, found int '-1'"),
        ("seed", 10**400, "seed: expected a whole number from 0 to 4,294,967,295, found int of 1329 bits"),
        ("warmup_steps", float("inf"), "training_args.warmup_steps: expected"),
        ("warmup_steps", 1.5, "expected a number of steps, whole or below 1 a share of all, found float '1.5'"),
        ("save_steps", 2.5, "expected a number of steps above 0, whole or below 1 a share of all, found float '2.5'"),
        ("logging_steps", 0, "expected a number of steps above 0, whole or below 1 a share of all, found int '0'"),
        (
            "max_steps",
            0,
            "max_steps: expected a number of steps above 0, or -1 to train for num_train_epochs, found int '0'",
        ),
        ("max_nonfinite_steps", -1, "max_nonfinite_steps: expected a whole number of at least 0, found int '-1'"),
        ("num_samples", 0, "num_samples: expected a whole number of at least 1 or None, found int '0'"),
        ("logging_nan_inf_filter", True, "logging_nan_inf_filter"),
    ],
)
def test_wrong_types(name: str, value: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_training_arguments({name: value})


def test_right_types() -> None:
    check_training_arguments({"learning_rate": 1, "tf32": None, "lr_scheduler_kwargs": {"a": 1}, "report_to": ["none"]})
    check_training_arguments({"label_names": ("labels",), "debug": ["underflow_overflow"], "save_strategy": "epoch"})


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, True),
        ({"use_cpu": True}, False),  # nothing is pinned
        ({"dataloader_pin_memory": False}, False),
        ({"accelerator_config": {"non_blocking": False}}, False),
    ],
)
def test_pinned_batches_are_copied_while_a_gpu_computes(given: dict[str, Any], expected: bool, tmp_path: Path) -> None:
    args = build_training_arguments({"output_dir": str(tmp_path), "report_to": "none", **given})
    assert args.accelerator_config.non_blocking is expected


def test_no_reporter_is_none() -> None:
    assert build_training_arguments({"use_cpu": True, "report_to": None}).report_to == []


def test_build_leaves_the_config_alone() -> None:
    values = {"use_cpu": True, "report_to": "none", "accelerator_config": {"non_blocking": True}}
    before = repr(values)
    assert build_training_arguments(values).accelerator_config.non_blocking
    assert repr(values) == before
