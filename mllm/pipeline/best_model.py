"""Choosing a model by its evaluations during training: by which score, and when to stop."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers import EarlyStoppingCallback, Seq2SeqTrainingArguments, TrainerCallback, TrainingArguments
from transformers.trainer_callback import TrainerControl, TrainerState

from mllm.errors import ConfigError, nearest
from mllm.fields import NonNegative, PositiveInt, in_field, read_section, show
from mllm.metrics.base import Metric

COMMON_SCORES = ("loss", "count", "runtime", "samples_per_second")
"""Scores of an evaluation, whatever its metric."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoppingRule:
    """The config's `early_stopping`.

    Attributes:
        patience: evaluations in a row that are no better than the best before them, after which training stops.
        threshold: by more than this a score must be better to count as such.
    """

    patience: PositiveInt = 1
    threshold: NonNegative = 0.0


def read_stopping_rule(cfg: Mapping[str, object]) -> StoppingRule | None:
    """The section `early_stopping` of a config.

    Raises:
        ConfigError: names the key.
    """
    section = cfg.get("early_stopping")
    return None if section is None else in_field("early_stopping", read_section, section, StoppingRule)


class EarlyStopping(EarlyStoppingCallback):
    """transformers' callback; a resumed run goes on with the count of its checkpoint, under the rule given now."""

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        callbacks: Any = state.stateful_callbacks  # as they are written to a file
        saved = callbacks.get(type(self).__name__)
        if isinstance(saved, dict):
            self.early_stopping_patience_counter = saved["attributes"]["early_stopping_patience_counter"]

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        metrics: Mapping[str, float],
        **kwargs: object,
    ) -> None:
        if "eval_loss" in metrics:  # not those of a test set
            super().on_evaluate(args, state, control, metrics, **kwargs)


def generates(args: Seq2SeqTrainingArguments) -> bool:
    """Whether an evaluation answers the items, not only takes the loss."""
    return args.predict_with_generate and not args.prediction_loss_only


def evaluates_in_training(args: TrainingArguments) -> bool:
    return args.do_train and (args.eval_strategy != "no" or args.eval_on_start)


class CutEvaluation(TrainerCallback):
    """Evaluates before a run goes on where a signal cut off the evaluation after the checkpoint's last step.

    Without its score another model could be the best one than in a run that no signal met.
    """

    def __init__(self, evaluate: Callable[[], None]) -> None:
        self.evaluate = evaluate

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        logged = (entry for entry in state.log_history if entry["step"] == state.global_step)
        if _is_due(args, state) and not any("eval_loss" in entry for entry in logged):
            self.evaluate()


def _is_due(args: TrainingArguments, state: TrainerState) -> bool:
    """Whether a run evaluates after this step."""
    step, last = state.global_step, state.global_step >= state.max_steps
    if step == 0 or args.eval_strategy == "no":
        return False
    if args.eval_strategy == "steps":
        return args.eval_delay <= step and (last or step % state.eval_steps == 0)
    epoch = state.epoch or 0.0
    return args.eval_delay <= epoch and (last or math.isclose(epoch, round(epoch)))


def check_delay(args: TrainingArguments, state: TrainerState) -> None:
    """Check that evaluations begin before the run ends, once it is known how long it is.

    Raises:
        ConfigError: `eval_delay` is beyond its end.
    """
    length, unit = (state.max_steps, "steps") if args.eval_strategy == "steps" else (state.num_train_epochs, "epochs")
    if args.eval_strategy != "no" and args.eval_delay > length:
        expected = f"at most {length}, the {unit} of the run"
        raise ConfigError(where="training_args.eval_delay", expected=expected, found=show(args.eval_delay))


def choose_score(args: Seq2SeqTrainingArguments, metric: Metric | None, rule: StoppingRule | None) -> None:
    """Check that evaluations during training will give the score by which models are compared; by default the loss.

    Raises:
        ConfigError: nothing evaluates during training, or no such score is known.
    """
    if not args.do_train:
        return
    asking = {
        "early_stopping": rule is not None,
        "training_args.load_best_model_at_end": args.load_best_model_at_end,
        "training_args.save_strategy='best'": args.save_strategy == "best",
    }
    for where, asks in asking.items():
        if asks and args.eval_strategy == "no":
            raise ConfigError(where=where, expected="training_args.eval_strategy 'steps' or 'epoch'", found="'no'")
    if (rule is not None or args.save_strategy == "best") and args.metric_for_best_model is None:
        args.metric_for_best_model, args.greater_is_better = "loss", bool(args.greater_is_better)
    if args.metric_for_best_model is not None and evaluates_in_training(args):
        check_score(args, [*COMMON_SCORES, *(metric.meanings if metric and generates(args) else ())])


def check_score(args: TrainingArguments, known: Iterable[str]) -> None:
    """
    Raises:
        ConfigError: `metric_for_best_model` is not among the known scores.
    """
    name = str(args.metric_for_best_model).removeprefix("eval_")
    if name not in (scores := list(known)):
        raise ConfigError(
            nearest(name, scores),
            where="training_args.metric_for_best_model",
            expected="a score of data_args.compute_metric, or loss",
            found=show(args.metric_for_best_model),
        )


@contextmanager
def random_state_kept(device: torch.device) -> Iterator[None]:
    """Leave the random numbers of this process as they were, so that training goes on as if nothing had been drawn."""
    of_python, of_numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng([device] if device.type == "cuda" else [], device_type="cuda"):
        try:
            yield
        finally:
            random.setstate(of_python)
            np.random.set_state(of_numpy)
