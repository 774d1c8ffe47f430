"""transformers' Trainer: what its tables hold, and what it has decided."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK
from transformers.optimization import TYPE_TO_SCHEDULER_FUNCTION
from transformers.trainer_utils import SchedulerType

from mllm.compat.names import member


def reporters() -> set[str]:
    """All names that `report_to` may hold."""
    return {*INTEGRATION_TO_CALLBACK, "all", "none"}


def schedule_function(kind: SchedulerType | str) -> Callable[..., object]:
    """The function whose arguments `lr_scheduler_kwargs` may name."""
    return TYPE_TO_SCHEDULER_FUNCTION[SchedulerType(kind)]


def batch_size_of(trainer: object) -> int:
    """Samples in a batch of one process; with `auto_find_batch_size`, of the try at hand."""
    return member(trainer, "_train_batch_size")


def on_device(trainer: object, batch: Mapping[str, object]) -> dict[str, object]:
    """A batch as training steps get it: its tensors on the trainer's device, all else as it is."""
    return member(trainer, "_prepare_inputs")(batch)


def evaluate_after_step(trainer: object) -> bool:
    """Evaluate as the loop of training does after a step; whether this is the best model so far."""
    scores = member(trainer, "_evaluate")(None, None)
    return member(trainer, "_determine_best_metric")(metrics=scores, trial=None)
