"""Ways to launch two processes, and runs of them."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

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
