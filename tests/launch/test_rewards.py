"""Training by rewards on two processes: the rewards and gradients of one, and the same again after a cut."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mllm.pipeline.finetune import main
from tests.launch.launching import LAUNCH, launch
from tests.pipeline.rewarded import history, write_rewarded

pytestmark = pytest.mark.slow

REWARD_ARGS = dict(beta=0.1, scale_rewards="batch", num_iterations=2, steps_per_generation=2, top_entropy_quantile=0.9)
TRAINING = dict(max_steps=8, save_strategy="steps", save_steps=3, use_cpu=True)


@pytest.mark.parametrize("way", ["ddp", "fsdp2"])
def test_two_processes_learn_from_rewards_as_one(way: str, tmp_path: Path) -> None:
    """Answers have other lengths on each rank, groups are compared across them; the cut comes amid reused answers."""
    training = dict(TRAINING, per_device_train_batch_size=1)
    planned = dict(collator_kwargs=dict(packing="shared", window=1))  # the items of a step are those of one process
    config = write_rewarded(tmp_path, REWARD_ARGS, training_args=training, data_args=planned)
    alone = tmp_path / "alone"
    assert main([str(config), "--do_train", "--output_dir", str(alone), "--per_device_train_batch_size", "2"]) == 0
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    steps: list[Any] = [
        [str(config), "--do_train", "--output_dir", str(whole)],
        [str(config), "--do_train", "--output_dir", str(cut)],
        {"cut_off": str(cut)},
        [str(config), "--do_train", "--output_dir", str(cut), "--resume_from_checkpoint", "auto"],
    ]
    launch(*LAUNCH[way], "tests/launch/runs.py", json.dumps(steps))
    logs = {name: history(folder) for name, folder in (("alone", alone), ("whole", whole), ("cut", cut))}
    for name, close in (("reward", 1e-5), ("rewards/length/std", 1e-5), ("grad_norm", 1e-3), ("kl", 0.1)):
        one, two, again = ([entry[name] for entry in log if name in entry] for log in logs.values())
        assert two == pytest.approx(one, rel=close, abs=1e-6), name
        assert again == pytest.approx(two, rel=1e-5), name
        assert len(one) >= 2
