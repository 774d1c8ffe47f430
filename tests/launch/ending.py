"""Started by `accelerate launch`: a run of the pipeline that meets something on the way.

FOLDER gets the exit status of each rank, WAY is what happens; the rest are arguments of the run.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from mllm.models.llava.model import Llava
from mllm.pipeline.finetune import leave, main
from tests.launch.deepspeed_cpu import shard_small_weights

RANK = os.environ.get("RANK", "0")


def slow(self: Any, count: int) -> None:
    time.sleep(0.05)


def unforeseen(self: Any, count: int) -> None:
    if count == 3 and RANK == "1":
        raise KeyError("unforeseen")


def exits(self: Any, count: int) -> None:
    if count == 3 and RANK == "1":
        os._exit(9)


class Overflow(torch.autograd.Function):
    """Infinite gradients of a finite loss."""

    @staticmethod
    def forward(ctx: Any, loss: Any) -> Any:
        return loss.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Any) -> Any:
        return gradient * float("inf")


SPOILT: dict[str, Callable[[Any], Any]] = {"nan": lambda loss: loss + float("nan"), "overflow": Overflow.apply}


def patch(way: str) -> None:
    """Make `way` happen before each forward pass in training; on rank 1 nan, or infinite gradients, in the third;
    dead is a loss whose gradients are exactly 0, from the third on and on every rank."""
    forward = Llava.forward
    count = 0

    def patched(self: Any, *args: Any, **kwargs: Any) -> Any:
        nonlocal count
        count += 1
        if way in globals():
            globals()[way](self, count)
        output = forward(self, *args, **kwargs)
        if count == 3 and RANK == "1" and way in SPOILT:
            output.loss = SPOILT[way](output.loss)
        if way == "dead" and count >= 3:
            output.loss = output.loss.detach() + 0 * output.loss
        return output

    Llava.forward = patched  # type: ignore[method-assign]


if __name__ == "__main__":
    folder, way, *words = sys.argv[1:]
    shard_small_weights()
    patch(way)
    status = main(words)
    written = Path(folder) / f"written{RANK}"
    written.write_text(str(status))
    written.replace(Path(folder) / f"status{RANK}")  # a launcher that ends this rank leaves no half of it
    leave(status)
