"""Two sharded CPU processes do what one process does: train, save, resume, evaluate, generate."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
FLAGS = [
    *("--use_cpu", "--logging_steps", "1", "--learning_rate", "1e-2"),
    *("--max_steps", "4", "--save_steps", "2", "--disable_tqdm", "true", "--report_to", "none"),
]

pytestmark = [
    pytest.mark.slow,
    # fully_shard's default mesh would be one of GPUs
    pytest.mark.skipif(torch.cuda.is_available(), reason="for machines without GPUs"),
]


def run(folder: Path, *flags: str, ranks: int) -> list[dict[str, Any]]:
    command = [sys.executable]
    if ranks > 1:
        command += ["-m", "accelerate.commands.launch", "--mixed_precision", "no", "--num_processes", str(ranks)]
        command += ["--config_file", str(ROOT / "accelerate_config" / "default_config.yaml"), str(HERE / "fsdp_cpu.py")]
    command += [str(HERE / "train_tiny.py"), *FLAGS, "--output_dir", str(folder), *flags]
    for stage in ("train", "eval"):
        command += [f"--per_device_{stage}_batch_size", str(4 // ranks)]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=180, cwd=folder.parent, check=False)
    assert done.returncode == 0, done.stderr
    return [json.loads((folder / f"result{rank}.json").read_text()) for rank in range(ranks)]


def merged(results: list[dict[str, Any]]) -> dict[str, list[int]]:
    return {number: answer for result in results for number, answer in result["answers"].items()}


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    folder = tmp_path_factory.mktemp("runs") / "one"
    return folder, run(folder, "--do_train", ranks=1)


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    folder = tmp_path_factory.mktemp("runs") / "two"
    return folder, run(folder, "--do_train", ranks=2)


def test_sharded_training_is_training(one: Any, two: Any) -> None:
    folder_one, (expected,) = one
    folder_two, found = two
    assert [result["type"] for result in found] == ["FSDP", "FSDP"]
    assert [result["part"] for result in found] == [0.5, 0.5]
    for result in found:
        assert result["losses"] == pytest.approx(expected["losses"], rel=1e-5)
        assert result["eval_loss"] == pytest.approx(expected["eval_loss"], rel=1e-5)
    assert merged(found) == expected["answers"]
    weights_one, weights_two = (load_file(folder / "model.safetensors") for folder in (folder_one, folder_two))
    assert set(weights_one) == set(weights_two)
    for name, weight in weights_one.items():
        torch.testing.assert_close(weights_two[name], weight, rtol=0, atol=1e-4)


def test_resumed_training_is_bit_for_bit_the_same(two: Any, tmp_path: Path) -> None:
    folder, expected = two
    found = run(tmp_path / "again", "--do_train", "--resume_from_checkpoint", f"{folder}/checkpoint-2", ranks=2)
    assert found == expected
    weights, again = load_file(folder / "model.safetensors"), load_file(tmp_path / "again" / "model.safetensors")
    assert all(torch.equal(weights[name], again[name]) for name in weights)


def test_evaluation_without_training(tmp_path: Path) -> None:
    (expected,) = run(tmp_path / "one", ranks=1)
    found = run(tmp_path / "two", ranks=2)
    assert [result["part"] for result in found] == [0.5, 0.5]
    assert [result["eval_loss"] for result in found] == pytest.approx([expected["eval_loss"]] * 2, rel=1e-5)
    assert merged(found) == expected["answers"]
