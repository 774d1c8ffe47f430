"""The sbatch scripts, run with stand-ins for srun, scontrol and accelerate: the command line that each machine gets."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPTS = sorted((ROOT / "tools" / "slurm").glob("*.sbatch"))

# srun starts the command once on each machine, at the same time.
SRUN = """#!/bin/bash
while [[ $1 == --* ]]; do shift; done
for ((node = 0; node < SLURM_NNODES; node++)); do SLURM_NODEID=$node "$@" & done
wait
"""
SCONTROL = """#!/bin/bash
if [ "$1 $2" = "show hostnames" ]; then printf 'node7\\nnode8\\n'; else echo "$@" >> "$FAKE_LOG"; fi
"""
# It signals all processes of the steps, the launcher among them.
SCANCEL = """#!/bin/bash
echo scancel "$@" >> "$FAKE_LOG"
kill -USR1 $(cat "${FAKE_LOG}"_pid.*)
"""
ACCELERATE = """#!/bin/bash
echo $$ > "${FAKE_LOG}_pid.$SLURM_NODEID"
{ printf '<%s> ' "$@"; echo; } >> "$FAKE_LOG.$SLURM_NODEID"
sleep "${FAKE_SECONDS:-0}"
"""


@pytest.fixture
def machine(tmp_path: Path) -> dict[str, str]:
    """The environment of a job on two machines of four GPUs, with the stand-ins first in the path."""
    for name, text in (("srun", SRUN), ("scontrol", SCONTROL), ("accelerate", ACCELERATE), ("scancel", SCANCEL)):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    return {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "FAKE_LOG": str(tmp_path / "log"),
        "SLURM_JOB_ID": "123456",
        "SLURM_JOB_NODELIST": "node[7-8]",
        "SLURM_GPUS_ON_NODE": "4",
        "SLURM_CPUS_PER_TASK": "32",
    }


def commands(machine: dict[str, str]) -> list[list[str]]:
    logs = sorted(Path(machine["FAKE_LOG"]).parent.glob("log.*"))
    return [log.read_text().strip().removeprefix("<").removesuffix(">").split("> <") for log in logs]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_syntax_and_usage(script: Path, machine: dict[str, str]) -> None:
    assert subprocess.run(["bash", "-n", script], check=False).returncode == 0
    done = subprocess.run(["bash", script], env=machine, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert f"usage: sbatch tools/slurm/{script.name} CONFIG.py" in done.stderr


def test_one_node(machine: dict[str, str]) -> None:
    argv = ["config/x.py", "--cfg-options", "data_args.text=a b", "--learning_rate", "1e-5"]
    machine |= {"SLURM_NNODES": "1"}
    subprocess.run(["bash", ROOT / "tools" / "slurm" / "one_node.sbatch", *argv], env=machine, check=True)
    (command,) = commands(machine)
    assert command == [
        *("launch", "--config_file", "accelerate_config/default_config.yaml", "--num_machines", "1"),
        *("--num_processes", "4", "--main_process_port", "23456", "mllm/pipeline/finetune.py"),
        *("config/x.py", "--resume_from_checkpoint", "auto", *argv[1:]),
    ]


def test_many_nodes(machine: dict[str, str]) -> None:
    machine |= {"SLURM_NNODES": "2", "ACCELERATE_CONFIG": "accelerate_config/deepspeed_zero3.yaml"}
    argv = ["config/x.py", "--cfg-options", "data_args.text=a 'b' $c"]
    subprocess.run(["bash", ROOT / "tools" / "slurm" / "many_nodes.sbatch", *argv], env=machine, check=True)
    assert commands(machine) == [
        [
            *("launch", "--config_file", "accelerate_config/deepspeed_zero3.yaml", "--num_machines", "2"),
            *("--num_processes", "8", "--machine_rank", rank, "--main_process_ip", "node7"),
            *("--main_process_port", "23456", "mllm/pipeline/finetune.py"),
            *("config/x.py", "--resume_from_checkpoint", "auto", *argv[1:]),
        ]
        for rank in ("0", "1")
    ]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_failed_run_fails_the_job(script: Path, machine: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "srun").write_text("#!/bin/bash\nexit 3\n")
    machine |= {"SLURM_NNODES": "1"}
    assert subprocess.run(["bash", script, "config/x.py"], env=machine, check=False).returncode == 3


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_shortly_before_the_end_the_job_is_queued_again(script: Path, machine: dict[str, str]) -> None:
    machine |= {"SLURM_NNODES": "1", "FAKE_SECONDS": "1.5"}
    job = subprocess.Popen(["bash", script, "config/x.py"], env=machine)
    deadline = time.monotonic() + 10
    while not commands(machine) and time.monotonic() < deadline:
        time.sleep(0.02)
    job.send_signal(signal.SIGUSR1)
    time.sleep(0.2)
    log = Path(machine["FAKE_LOG"])
    assert log.read_text() == "scancel --signal=USR1 123456\n"  # the launcher lives on, while its processes save
    job.wait(timeout=10)
    assert log.read_text() == "scancel --signal=USR1 123456\nrequeue 123456\n"


FINETUNE = """
import os, sys
from pathlib import Path
from transformers import Seq2SeqTrainingArguments
args = Seq2SeqTrainingArguments("out", use_cpu=True, report_to="none")
text = f"machine {os.environ['SLURM_NODEID']}: {args.process_index} of {args.world_size}, {sys.argv[1:]}"
Path(f"rank{args.process_index}").write_text(text)
args.distributed_state.wait_for_everyone()
args.distributed_state.destroy_process_group()
"""


@pytest.mark.slow
def test_two_machines_find_each_other(machine: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "mllm" / "pipeline").mkdir(parents=True)
    (tmp_path / "mllm" / "pipeline" / "finetune.py").write_text(FINETUNE)
    (tmp_path / "accelerate").write_text(f'#!/bin/bash\nexec {sys.executable} -m accelerate.commands."$@"\n')
    (tmp_path / "scontrol").write_text("#!/bin/bash\necho 127.0.0.1\n")
    machine |= {"SLURM_NNODES": "2", "SLURM_GPUS_ON_NODE": "1", "OMP_NUM_THREADS": "1"}
    machine["ACCELERATE_CONFIG"] = str(ROOT / "accelerate_config" / "cpu.yaml")
    script = ROOT / "tools" / "slurm" / "many_nodes.sbatch"
    subprocess.run(["bash", script, "config/x.py"], env=machine, cwd=tmp_path, check=True, timeout=120)
    argv = ["config/x.py", "--resume_from_checkpoint", "auto"]
    for rank in (0, 1):
        assert (tmp_path / f"rank{rank}").read_text() == f"machine {rank}: {rank} of 2, {argv}"
