"""Processes of one launch act as one run: they agree on errors and signals, and end with their launcher."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

import torch
from accelerate import PartialState
from accelerate.utils import DistributedType, broadcast_object_list
from torch import distributed

from mllm.boundary import Ended
from mllm.errors import ConfigError, MllmError
from mllm.interrupts import INTERRUPTS, Interrupted

T = TypeVar("T")

GRACE = 120.0
"""Seconds in which a process may finish a step and save after its launcher has died."""


def on_main(work: Callable[[], T]) -> T:
    """The result of `work` on every rank, though only the main process does it.

    Raises:
        MllmError: from `work`; on the other ranks `Ended`, since the main process says what is wrong.
    """
    outcome: list[Any] = [None, None]
    if PartialState().is_main_process:
        try:
            outcome[0] = work()
        except MllmError as error:
            outcome[1] = error
    broadcast_object_list(outcome)
    if outcome[1] is not None:
        fail(outcome[1])
    return outcome[0]


def wait_for_ranks() -> None:
    """Wait until every rank is here."""
    PartialState().wait_for_everyone()


def fail(error: MllmError | Interrupted) -> NoReturn:
    """End the run for something that all ranks know: the main process raises it, the others end in silence."""
    if PartialState().is_main_process:
        raise error
    raise Ended(128 + error.signum if isinstance(error, Interrupted) else 1)


def largest(values: list[int]) -> list[int]:
    """Each number where it is largest; every rank calls this at the same time."""
    if not distributed.is_initialized() or distributed.get_world_size() == 1:
        return values
    tensor = torch.tensor(values, device=PartialState().device)
    distributed.all_reduce(tensor, distributed.ReduceOp.MAX)
    return tensor.tolist()


def noted_signal() -> int:
    """The signal that any rank has noted, 0 for none; every rank calls this at the same time."""
    return largest([INTERRUPTS.signum])[0]


def launched() -> bool:
    """Whether accelerate or torchrun started this process, rather than a user."""
    return bool({"LOCAL_RANK", "ACCELERATE_MIXED_PRECISION"} & os.environ.keys())


def check_launch(ranks: int) -> None:
    """Raises ConfigError where this process does not know of all that were launched, or without DeepSpeed though it
    was asked for; `ranks`: the processes that it knows of.
    """
    launched_ranks = int(os.environ.get("WORLD_SIZE", "1"))
    deepspeed = os.environ.get("ACCELERATE_USE_DEEPSPEED", "false").lower() == "true"
    on_cpu = "DS_ACCELERATOR=cpu and --ddp_backend gloo without --use_cpu" if deepspeed else "--use_cpu"
    if launched_ranks != ranks:
        raise ConfigError(
            f"no GPU was found; on CPU: {on_cpu}",
            field="accelerate launch",
            expected=f"{launched_ranks} processes in one training run",
            found=f"{ranks}",
        )
    if deepspeed and PartialState().distributed_type != DistributedType.DEEPSPEED:
        raise ConfigError(
            f"accelerate leaves DeepSpeed out on CPU: set {on_cpu}", field="use_cpu", expected="False", found="True"
        )


def follow_launcher() -> None:
    """End with the launcher that started this process, as by SIGTERM; at the latest `GRACE` seconds after it.

    A process that a user started outlives its shell if that is wished, and is not watched.
    """
    if not launched():
        return
    launcher = os.getppid()

    def watch() -> None:
        while os.getppid() == launcher:
            time.sleep(1)
        if not INTERRUPTS.signum:
            os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(GRACE)
        os._exit(128 + signal.SIGTERM)

    threading.Thread(target=watch, daemon=True, name="launcher").start()
