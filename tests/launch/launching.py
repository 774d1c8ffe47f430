"""Ways to launch two processes, and runs of them."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tests.forks import fork
from tests.launch.settings import launch_environment

ROOT = Path(__file__).parents[2]


LAUNCH = {
    "ddp": ["--config_file", "accelerate_config/cpu.yaml"],
    "fsdp2": [
        *["--config_file", "accelerate_config/default_config.yaml", "--num_processes", "2"],
        *["--mixed_precision", "no", "tests/launch/fsdp_cpu.py"],
    ],
    **{
        f"zero{stage}": [
            *["--config_file", f"accelerate_config/deepspeed_zero{stage}.yaml", "--num_processes", "2"],
            *["--mixed_precision", "no"],
        ]
        for stage in (2, 3)
    },
}


NEEDS_DEEPSPEED = pytest.mark.skipif(not find_spec("deepspeed"), reason="needs deepspeed")


KINDS = [pytest.param(kind, marks=NEEDS_DEEPSPEED if kind.startswith("zero") else ()) for kind in LAUNCH]


ON_CPU = {f"zero{stage}": ["--use_cpu", "False", "--ddp_backend", "gloo"] for stage in (2, 3)}
"""Flags of DeepSpeed on CPU processes: `use_cpu` would leave it out."""


def launch(*arguments: str) -> None:
    command = [sys.executable, "-m", "accelerate.commands.launch", *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "DS_ACCELERATOR": "cpu"}
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, check=False, text=True)
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-6000:]


def fork_ranks(folder: Path, function: Callable[..., Any], *args: Any) -> None:
    """Call it in two processes, with the variables that `accelerate launch` sets by accelerate_config/cpu.yaml.

    What they print is in `folder`.
    """
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    environment = {**launch_environment("cpu"), "OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1"}
    environment |= {"MASTER_PORT": str(port), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    said = [folder / f"rank_{rank}.log" for rank in range(2)]
    ranks = [
        fork(function, *args, folder=ROOT, out=out, environment={**environment, "RANK": rank, "LOCAL_RANK": rank})
        for out, rank in zip(said, "01", strict=True)
    ]
    try:
        statuses = [rank.wait(300) for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
    assert statuses == [0, 0], "\n".join(path.read_text()[-6000:] for path in said)
