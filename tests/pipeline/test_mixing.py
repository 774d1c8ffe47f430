"""Mixed and filled rows in a training run: one that goes on from a checkpoint has the batches of an unbroken one."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from mllm.cli import main
from mllm.pipeline.trainer import Trainer
from tests.pipeline.tiny import SCENES, losses, write_config

SEVERAL = [dict(SCENES, count=30, objects=[1, 1]), dict(SCENES, count=9, seed=5, tasks=["count"])]
MIXED: list[dict[str, Any]] = [
    dict(type="Mixture", datasets=SEVERAL, ratios=[2, 1], train_num_samples=11),
    dict(type="Interleave", datasets=SEVERAL, probabilities=[1, 4]),  # as long in each epoch
    dict(type="Shuffle", dataset=dict(type="Repeat", dataset=SEVERAL[1], times=2)),
]


def test_a_run_that_ends_in_mid_epoch_goes_on_with_the_same_batches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With two workers. What a killed run leaves is its last checkpoint, here that of step 8, in the second epoch."""
    batches: list[list[Any]] = []
    compute = Trainer.compute_loss

    def compute_loss(self: Trainer, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        seen = {name: inputs[name].tolist() for name in ("index", "input_ids", "labels", "image_index")}
        batches.append([self.state.global_step, seen, inputs["pixels"].sum().item()])
        return compute(self, model, inputs, *args, **kwargs)

    monkeypatch.setattr(Trainer, "compute_loss", compute_loss)
    mixed = dict(type="MultiTurn", dataset=dict(type="ConcatDataset", datasets=MIXED), draws=3, max_images=3)
    config = write_config(
        tmp_path,
        training_args={"max_steps": 12, "save_strategy": "steps", "save_steps": 8, "dataloader_num_workers": 2}
        | {"per_device_train_batch_size": 8},
        data_args={"train": mixed, "max_length": 120},
    )
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert main(["train", str(config), "--output_dir", str(whole)]) == 0
    unbroken = list(batches)
    assert [step for step, *_ in unbroken] == list(range(12))
    assert len({str(seen) for _, *seen in unbroken}) == 12
    epoch = json.loads((whole / "checkpoint-8" / "trainer_state.json").read_text())["epoch"]
    assert 1.2 < epoch < 1.8
    batches.clear()
    shutil.copytree(whole / "checkpoint-8", cut / "checkpoint-8")
    assert main(["train", str(config), "--output_dir", str(cut), "--resume_from_checkpoint", "auto"]) == 0
    assert batches == unbroken[8:]
    assert losses(cut) == pytest.approx(losses(whole), abs=1e-6)
