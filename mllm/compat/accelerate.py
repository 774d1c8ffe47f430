"""What an `Accelerator` was given to prepare."""

from __future__ import annotations

from accelerate import Accelerator

from mllm.compat.names import member


def has_prepared_model(accelerator: Accelerator) -> bool:
    return bool(member(accelerator, "_models"))


def forget_last_optimizer(accelerator: Accelerator) -> None:
    """Take back the optimizer that was prepared last: a checkpoint does not write it, nor is it stepped."""
    member(accelerator, "_optimizers").pop()
