from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from mllm.compat import datatrove


def test_run_task_runs_one_rank(tmp_path: Path) -> None:
    code = f"""
from datatrove.executor import LocalPipelineExecutor
from mllm.compat.datatrove import run_task
ran = []
executor = LocalPipelineExecutor(pipeline=[lambda data, rank, world_size: ran.append((rank, world_size))], tasks=3,
                                 logging_dir={str(tmp_path)!r})
run_task(executor, 1)
import json; print(json.dumps([ran, executor.get_incomplete_ranks()]))
"""
    pytest.importorskip("datatrove")
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(ran.stdout.splitlines()[-1]) == [[[1, 3]], [0, 2]]


def test_add_sbatch_defaults_keeps_what_was_chosen(tmp_path: Path) -> None:
    slurm = pytest.importorskip("datatrove.executor.slurm")
    executor = slurm.SlurmPipelineExecutor(
        pipeline=[], tasks=1, time="1", partition="p", logging_dir=str(tmp_path), sbatch_args={"mem": "1G"}
    )
    datatrove.add_sbatch_defaults(executor, {"mem": "2G", "kill-on-invalid-dep": "yes"})
    found = executor.get_sbatch_args()
    assert found["mem"] == "1G"
    assert found["kill-on-invalid-dep"] == "yes"
