"""Mixed and filled rows in a training run: one that is killed and goes on is in the end what an unbroken one is."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from mllm.cli import main
from mllm.pipeline.trainer import Trainer
from tests.pipeline.tiny import SCENES, losses, write_config

ROOT = Path(__file__).parents[2]
SEVERAL = [dict(SCENES, count=30, objects=[1, 1]), dict(SCENES, count=9, seed=5, tasks=["count"])]
MIXED: list[dict[str, Any]] = [
    dict(type="Mixture", datasets=SEVERAL, ratios=[2, 1], train_num_samples=11),
    dict(type="Mixture", datasets=SEVERAL, sampling="sqrt", train_num_samples=6),
    dict(type="Interleave", datasets=SEVERAL, probabilities=[1, 4]),  # as long in each epoch
    dict(type="Shuffle", dataset=dict(type="Repeat", dataset=SEVERAL[1], times=2)),
]
SAVED, KILLED, ENDED = 8, 10, 14
"""Steps: of the last checkpoint, of the death, of the end."""

COMPUTE_LOSS = Trainer.compute_loss


def recording(file: Path, *, die_at: int | None = None) -> Callable[..., Any]:
    """Computes losses, and writes to `file` what each step is given; at step `die_at` its process is killed."""

    def compute_loss(self: Trainer, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        if self.state.global_step == die_at:
            os.kill(os.getpid(), signal.SIGKILL)
        seen = {name: inputs[name].tolist() for name in ("index", "input_ids", "labels", "image_index")}
        with file.open("a", encoding="utf-8") as lines:
            lines.write(json.dumps([self.state.global_step, seen, inputs["pixels"].sum().item()]) + "\n")
        return COMPUTE_LOSS(self, model, inputs, *args, **kwargs)

    return compute_loss


@pytest.mark.slow
def test_a_run_killed_in_mid_epoch_goes_on_with_the_same_batches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With two workers, in the second epoch; what came after the last checkpoint is done again."""
    mixed = dict(type="MultiTurn", dataset=dict(type="ConcatDataset", datasets=MIXED), draws=3, max_images=3)
    config = write_config(
        tmp_path,
        training_args={"max_steps": ENDED, "save_strategy": "steps", "save_steps": SAVED}
        | {"dataloader_num_workers": 2, "per_device_train_batch_size": 8},
        data_args={"train": mixed, "max_length": 120},
    )
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    batches, before, after = (tmp_path / f"{name}.jsonl" for name in ("whole", "before", "after"))
    monkeypatch.setattr(Trainer, "compute_loss", recording(batches))
    assert main(["train", str(config), "--output_dir", str(whole)]) == 0
    steps = batches.read_text().splitlines()
    assert [json.loads(step)[0] for step in steps] == list(range(ENDED))
    assert len({step.split(",", 1)[1] for step in steps}) == ENDED
    epoch = json.loads((whole / f"checkpoint-{SAVED}" / "trainer_state.json").read_text())["epoch"]
    assert 1.2 < epoch < 1.8

    assert killed(["train", str(config), "--output_dir", str(cut)], before, tmp_path / "log") == -signal.SIGKILL
    assert before.read_text().splitlines() == steps[:KILLED]
    assert [folder.name for folder in cut.glob("checkpoint-*")] == [f"checkpoint-{SAVED}"]
    assert not (cut / "model.safetensors").exists()

    monkeypatch.setattr(Trainer, "compute_loss", recording(after))
    assert main(["train", str(config), "--output_dir", str(cut), "--resume_from_checkpoint", "auto"]) == 0
    assert after.read_text().splitlines() == steps[SAVED:]
    assert losses(cut) == losses(whole)
    weights = load_file(whole / "model.safetensors")
    for name, weight in load_file(cut / "model.safetensors").items():
        assert weight.equal(weights.pop(name)), name
    assert not weights


def killed(arguments: list[str], batches: Path, log: Path) -> int:
    """The exit status of a run in a process of its own, which dies at step KILLED."""
    script = (
        "import sys; from pathlib import Path; from tests.runs.test_mixing import *; "
        "Trainer.compute_loss = recording(Path(sys.argv[1]), die_at=KILLED); main(sys.argv[2:])"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": str(torch.get_num_threads())}
    with log.open("wb") as output:  # a pipe would stay open until the orphaned workers notice
        command = [sys.executable, "-c", script, str(batches), *arguments]
        return subprocess.run(command, env=environment, stdout=output, stderr=output, check=False).returncode
