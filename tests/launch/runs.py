"""Several runs of the pipeline in one process group; `accelerate launch` gets them as JSON lists of arguments.

A dict `{"cut_off": folder}` between them leaves a run's folder as if it had been killed after its first checkpoint.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from mllm.pipeline.finetune import main
from mllm.pipeline.manifest import MANIFEST, WEIGHTS
from tests.launch.deepspeed_cpu import shard_small_weights


def cut_off(folder: Path) -> None:
    shutil.rmtree(folder / "checkpoint-6")
    for name in (MANIFEST, "trainer_state.json", *WEIGHTS):
        for path in folder.glob(name):
            path.unlink()


def run(steps: Sequence[Any]) -> int:
    """Each of the runs in turn; the exit status, 1 where one failed."""
    shard_small_weights()
    for step in steps:
        if isinstance(step, dict):
            if torch.distributed.get_rank() == 0:
                cut_off(Path(step["cut_off"]))
        elif main(step) != 0:
            return 1
        torch.distributed.barrier()  # the next run reads what the first process may still write
    torch.distributed.destroy_process_group()
    return 0


if __name__ == "__main__":
    sys.exit(run(json.loads(sys.argv[1])))
