"""Every training argument of the installed transformers is honoured, which a test runs, or refused by name."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from transformers import Seq2SeqTrainingArguments

from mllm.config.arguments import DEFAULTS, check_training_arguments
from mllm.config.honoured import HONOURED, IN_PART, REFUSED
from mllm.config.training_fields import COMPUTED, training_fields
from mllm.errors import ConfigError

FIELDS = [field.name for field in dataclasses.fields(Seq2SeqTrainingArguments) if field.init]
OTHER: dict[str, Any] = {
    "local_rank": 3,
    "generation_max_length": 5,
    "generation_num_beams": 2,
    "eval_accumulation_steps": 2,
    "label_smoothing_factor": 0.1,
    "hub_strategy": "end",
    "include_for_metrics": ["loss"],
    "label_names": ["labels", "more"],
    "optim_target_modules": ["q_proj"],
    "fsdp": "full_shard",
    "liger_kernel_config": {"rope": True},
    "parallelism_config": {"tp_size": 2},
    "deepspeed": {"zero_optimization": {"stage": 2}},
    "fsdp_config": {"version": 2},
    "hub_private_repo": True,
}


@pytest.mark.parametrize("name", FIELDS)
def test_every_field_is_decided_once(name: str) -> None:
    assert (name in HONOURED) + (name in REFUSED) == 1


def test_no_decision_is_about_a_field_that_is_gone() -> None:
    assert HONOURED | REFUSED.keys() | IN_PART.keys() <= {*FIELDS}
    assert IN_PART.keys() <= HONOURED


@pytest.mark.parametrize("name", REFUSED)
def test_another_value_than_the_default_is_refused(name: str) -> None:
    default = DEFAULTS.get(name, training_fields()[name].default)
    other = OTHER.get(name, not default if isinstance(default, bool) else "x")
    with pytest.raises(ConfigError) as raised:
        check_training_arguments({name: other})
    assert str(raised.value) == f"training_args.{name}: not supported: {REFUSED[name]}"


def test_defaults_are_no_requests() -> None:
    check_training_arguments(
        {name: field.default for name, field in training_fields().items() if field.default is not COMPUTED} | DEFAULTS
    )
    check_training_arguments(
        {"label_names": ("labels",), "fsdp": "", "fsdp_config": {}, "hub_private_repo": False, "deepspeed": ""}
    )


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("dataloader_num_workers", 100_000, "expected 0 to 1024, found int"),
        (
            "include_num_input_tokens_seen",
            "some",
            "expected True, False, 'all', 'non_padding' or 'no', found str 'some'",
        ),
        ("train_sampling_strategy", "group_by_length", "expected 'random' or 'sequential', found .*; packing plans"),
        ("optim", "schedule_free_adamw", "expected a tested optimizer, found"),
        ("optim", "galore_adamw", "expected a tested optimizer, found"),
        ("optim", "lomo", "expected a tested optimizer, found"),
        ("accelerator_config", {"split_batches": True}, "found .*; split_batches is not supported"),
        ("accelerator_config", '{"dispatch_batches": true}', "found .*; dispatch_batches is not supported"),
        ("accelerator_config", {"even_batches": False}, "found .*; even_batches is not supported"),
        (
            "accelerator_config",
            {"gradient_accumulation_kwargs": {"num_steps": 4}},
            "found .*; set gradient_accumulation_steps",
        ),
        (
            "accelerator_config",
            {"gradient_accumulation_kwargs": 4},
            "expected a dict as gradient_accumulation_kwargs, found",
        ),
        ("accelerator_config", "settings.json", "expected a dict, found str"),
        ("activation_checkpointing_kwargs", {"nonsense": 1}, "found .*; nonsense is not supported"),
        ("gradient_checkpointing_kwargs", "[1]", "expected a dict, found str"),
    ],
)
def test_values_that_are_not_honoured(name: str, value: object, said: str) -> None:
    with pytest.raises(ConfigError, match=rf"^training_args\.{name}: .*{said}"):
        check_training_arguments({name: value})


def test_values_that_are_honoured() -> None:
    check_training_arguments(
        {"accelerator_config": {"gradient_accumulation_kwargs": {"sync_each_batch": True}, "non_blocking": True}}
    )
    check_training_arguments(
        {"activation_checkpointing_kwargs": '{"every_n_layers": 2}', "optim": "sgd", "accelerator_config": None}
    )
