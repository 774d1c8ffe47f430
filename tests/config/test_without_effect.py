from __future__ import annotations

from typing import Any

import pytest

from mllm.config.training_fields import training_fields
from mllm.config.without_effect import IN_TRAINING, NEEDS, without_effect

EFFECTIVE: dict[str, dict[str, Any]] = {
    "eval_steps": {"eval_strategy": "steps"},
    "eval_delay": {"eval_strategy": "epoch"},
    "save_steps": {},
    "save_total_limit": {},
    "logging_steps": {},
    "metric_for_best_model": {"eval_strategy": "steps", "load_best_model_at_end": True},
    "num_train_epochs": {},
    "adam_beta1": {},
    "adam_epsilon": {"optim": "ademamix"},
    "gradient_checkpointing_kwargs": {"gradient_checkpointing": True},
    "activation_checkpointing_kwargs": {"activation_checkpointing": True},
    "dataloader_persistent_workers": {"dataloader_num_workers": 2},
    "run_name": {"report_to": ["tensorboard"]},
    "num_samples": {"do_predict": True},
    "resume": {"do_eval": True},
    "overwrite_output_dir": {},
}
OTHERWISE: dict[str, dict[str, Any]] = {
    "save_steps": {"save_strategy": "no"},
    "save_total_limit": {"save_strategy": "no"},
    "logging_steps": {"logging_strategy": "epoch"},
    "num_train_epochs": {"max_steps": 5},
    "adam_beta1": {"optim": "sgd"},
    "adam_epsilon": {"optim": "lion_32bit"},
    "overwrite_output_dir": {"do_train": False},
}


@pytest.mark.parametrize("name", EFFECTIVE)
def test_without_effect_names_what_lacks_its_counterpart(name: str) -> None:
    given = {"do_train": True, name: 7}
    assert not list(without_effect({**given, **EFFECTIVE[name]}, early_stopping=False))
    (said,) = without_effect({**given, **OTHERWISE.get(name, {})}, early_stopping=False)
    assert said.startswith(f"training_args.{name} has no effect: it needs ")


def test_without_effect_asks_about_every_need() -> None:
    assert {need.names[0] for need in (*IN_TRAINING, *NEEDS)} == {*EFFECTIVE}
    assert {name for need in (*IN_TRAINING, *NEEDS) for name in need.names} <= {*training_fields()}


@pytest.mark.parametrize(
    "given",
    [
        {"eval_steps": 5, "save_steps": 5, "save_strategy": "no"},  # no training
        {"do_train": True, "eval_delay": 0, "save_steps": 500, "save_strategy": "no", "metric_for_best_model": None},
        {"do_train": True, "eval_on_start": True, "lr_scheduler_type": "reduce_lr_on_plateau",
         "metric_for_best_model": "loss"},
    ],
)  # fmt: skip
def test_without_effect_is_silent_of_defaults_and_of_what_is_not_run(given: dict[str, Any]) -> None:
    assert not list(without_effect(given, early_stopping=False))


def test_early_stopping_reads_the_score() -> None:
    given = {"do_train": True, "eval_strategy": "epoch", "metric_for_best_model": "acc@0.5"}
    assert not list(without_effect(given, early_stopping=True))
    assert len(list(without_effect(given, early_stopping=False))) == 1
