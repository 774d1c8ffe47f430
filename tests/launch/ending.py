"""Started by `accelerate launch`: a run of the pipeline that meets something on the way.

FOLDER gets the exit status of each rank, WAY is what happens; the rest are arguments of the run.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

from mllm.models.llava.model import Llava
from mllm.pipeline.finetune import leave, main

RANK = os.environ.get("RANK", "0")


def slow(self: Any, count: int) -> None:
    time.sleep(0.05)


def unforeseen(self: Any, count: int) -> None:
    if count == 3 and RANK == "1":
        raise KeyError("unforeseen")


def exits(self: Any, count: int) -> None:
    if count == 3 and RANK == "1":
        os._exit(9)


def patch(way: str) -> None:
    """Make `way` happen before each forward pass in training, on rank 1 a loss of nan in the third."""
    forward = Llava.forward
    count = 0

    def patched(self: Any, *args: Any, **kwargs: Any) -> Any:
        nonlocal count
        count += 1
        if way in globals():
            globals()[way](self, count)
        output = forward(self, *args, **kwargs)
        if way == "nan" and count == 3 and RANK == "1":
            output.loss = output.loss + float("nan")
        return output

    Llava.forward = patched  # type: ignore[method-assign]


if __name__ == "__main__":
    folder, way, *words = sys.argv[1:]
    patch(way)
    status = main(words)
    (Path(folder) / f"status{RANK}").write_text(str(status))
    leave(status)
