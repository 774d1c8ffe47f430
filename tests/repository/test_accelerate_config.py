"""The files of accelerate_config/, as `accelerate launch` reads them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.utils import DistributedType

from tests.launch.settings import FOLDER, launch_arguments, launch_environment

KINDS = {
    "default_config": DistributedType.FSDP,
    "ddp": DistributedType.MULTI_GPU,
    "cpu": DistributedType.MULTI_GPU,
    "deepspeed_zero2": DistributedType.DEEPSPEED,
    "deepspeed_zero3": DistributedType.DEEPSPEED,
}


def test_every_file_is_checked() -> None:
    assert {path.stem for path in FOLDER.glob("*.yaml")} == set(KINDS)


@pytest.mark.parametrize("name", KINDS)
def test_accelerate_takes_the_file(name: str) -> None:
    config = load_config_from_file(str(FOLDER / f"{name}.yaml"))  # unknown keys are an error
    assert config.distributed_type == KINDS[name]
    args = launch_arguments(name)
    assert args.num_processes == (2 if name == "cpu" else 4)
    assert (args.use_fsdp, args.use_deepspeed) == (
        KINDS[name] == DistributedType.FSDP,
        KINDS[name] == DistributedType.DEEPSPEED,
    )
    assert args.mixed_precision == ("no" if name == "cpu" else "bf16")
    assert args.training_script_args == ["config/x.py", "--bf16"]


def test_the_default_shards_with_fsdp2_and_leaves_the_layers_to_the_model() -> None:
    args = launch_arguments("default_config", "--num_processes", "4", "--main_process_port", "23786")
    assert (args.num_processes, args.main_process_port) == (4, 23786)
    env = launch_environment("default_config")
    expected = {
        "ACCELERATE_USE_FSDP": "true",
        "ACCELERATE_MIXED_PRECISION": "bf16",
        "FSDP_VERSION": "2",
        "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP",
        "FSDP_RESHARD_AFTER_FORWARD": "true",
        "FSDP_STATE_DICT_TYPE": "SHARDED_STATE_DICT",
        "FSDP_ACTIVATION_CHECKPOINTING": "false",
        "FSDP_CPU_RAM_EFFICIENT_LOADING": "false",
        "FSDP_OFFLOAD_PARAMS": "false",
    }
    assert {name: env.get(name) for name in expected} == expected
    assert "FSDP_TRANSFORMER_CLS_TO_WRAP" not in env


@pytest.mark.parametrize("stage", [2, 3])
def test_deepspeed_stages(stage: int) -> None:
    args = launch_arguments(f"deepspeed_zero{stage}")
    assert args.zero_stage == stage


SCRIPT = """
import sys
from transformers import Seq2SeqTrainingArguments
args = Seq2SeqTrainingArguments("out", use_cpu="--use_cpu" in sys.argv, report_to="none")
state = args.distributed_state
print(f"{args.process_index} of {args.world_size} on {state.backend}, {state.distributed_type.value}", flush=True)
state.wait_for_everyone()
state.destroy_process_group()
"""


@pytest.mark.slow
def test_cpu_starts_processes_that_know_of_each_other(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    command = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(FOLDER / "cpu.yaml")]
    done = subprocess.run(
        [*command, "--num_processes", "2", str(script), "--use_cpu"],
        capture_output=True, text=True, timeout=120, cwd=tmp_path, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "0 of 2 on gloo, MULTI_CPU" in done.stdout
    assert "1 of 2 on gloo, MULTI_CPU" in done.stdout
