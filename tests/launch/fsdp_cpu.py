"""FSDP2 on CPU processes (gloo), which accelerate by itself ignores: what a sharded run does, tried without a GPU.

As a launcher of another script, with the settings that GPUs would get:

    accelerate launch --config_file accelerate_config/default_config.yaml --num_processes 2 --mixed_precision no \
        tests/launch/fsdp_cpu.py SCRIPT.py ARGUMENTS --use_cpu

or imported, before the Trainer is made: `enable()`.
"""

from __future__ import annotations

import os
import runpy
import sys
from typing import Any

import accelerate.state
import torch
from accelerate.utils import DistributedType


def enable() -> None:
    """Make accelerate take an FSDP plugin, or ACCELERATE_USE_FSDP, seriously on CPU processes, as it does on GPUs."""
    state = accelerate.state.AcceleratorState
    original = state.__init__

    def init(self: Any, *args: Any, fsdp_plugin: Any = None, **kwargs: Any) -> None:
        original(self, *args, fsdp_plugin=fsdp_plugin, **kwargs)
        if fsdp_plugin is not None and self.distributed_type == DistributedType.MULTI_CPU:
            if self._mixed_precision != "no":
                fsdp_plugin.set_mixed_precision(self._mixed_precision)
            self.fsdp_plugin = fsdp_plugin
            self.distributed_type = DistributedType.FSDP
            accelerate.state.PartialState._shared_state["distributed_type"] = DistributedType.FSDP

    state.__init__ = init  # type: ignore[method-assign]


if __name__ == "__main__":
    enable()
    sys.argv = sys.argv[1:]
    sys.path[0] = os.path.dirname(os.path.abspath(sys.argv[0]))  # what running the script itself would put there
    try:
        runpy.run_path(sys.argv[0], run_name="__main__")
    except SystemExit as end:
        if end.code:
            raise
    if torch.distributed.is_initialized():
        torch.distributed.barrier()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # gloo's threads abort some processes that end in the usual way
