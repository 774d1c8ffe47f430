"""`INTEGRATION_TO_CALLBACK`, `TYPE_TO_SCHEDULER_FUNCTION`, and of `Trainer` `_train_batch_size`, `_prepare_inputs`,
`_evaluate`, `_determine_best_metric`."""

from __future__ import annotations

import inspect
from pathlib import Path

import torch
from transformers import Trainer, TrainingArguments

from mllm.compat import transformers_trainer as compat


def test_reporters_hold_the_usual_ones() -> None:
    assert {"tensorboard", "wandb", "all", "none"} <= compat.reporters()


def test_schedule_function_takes_the_arguments_of_a_schedule() -> None:
    assert "min_lr" in inspect.signature(compat.schedule_function("cosine_with_min_lr")).parameters


def test_batch_size_of_is_that_of_the_arguments(tmp_path: Path) -> None:
    arguments = TrainingArguments(str(tmp_path), per_device_train_batch_size=3, use_cpu=True, report_to="none")
    assert compat.batch_size_of(Trainer(torch.nn.Linear(1, 1), arguments)) == 3


def test_on_device_keeps_what_is_no_tensor(tmp_path: Path) -> None:
    trainer = Trainer(torch.nn.Linear(1, 1), TrainingArguments(str(tmp_path), use_cpu=True, report_to="none"))
    found = compat.on_device(trainer, {"ids": torch.arange(3), "counts": "three"})
    assert found["ids"].tolist() == [0, 1, 2]
    assert found["counts"] == "three"


def test_evaluate_after_step_compares_with_the_best_so_far(tmp_path: Path) -> None:
    arguments = TrainingArguments(str(tmp_path), metric_for_best_model="loss", use_cpu=True, report_to="none")
    trainer = Trainer(torch.nn.Linear(1, 1), arguments)
    found: list[bool] = []
    for loss in (2.0, 1.0, 3.0):
        trainer.evaluate = lambda loss=loss, **_: {"eval_loss": loss}  # type: ignore[method-assign, assignment]
        found.append(compat.evaluate_after_step(trainer))
    assert found == [True, True, False]
