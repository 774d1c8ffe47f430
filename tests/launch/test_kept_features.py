"""Two ranks that keep features in one folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.launch.launching import LAUNCH, launch
from tests.pipeline.tiny import SCENES, losses, write_config

DATA = dict(validation=None, test=None, multitest=None, train=dict(SCENES, count=12))
TRAINING = dict(max_steps=-1, num_train_epochs=2, per_device_train_batch_size=2)


@pytest.mark.slow
def test_ranks_find_what_others_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLLM_CACHE", str(tmp_path / "cache"))
    runs: list[list[str]] = []
    for features in ("cached", "computed"):
        (tmp_path / features).mkdir()
        data = dict(DATA, images=dict(features=features))
        model = dict(freeze=["vision_tower"])
        config = write_config(tmp_path / features, model_args=model, training_args=TRAINING, data_args=data)
        runs.append([str(config), "--output_dir", str(tmp_path / features / "out"), "--do_train", "True"])
    launch(*LAUNCH["ddp"], "tests/launch/runs.py", json.dumps(runs))
    kept, computed = (tmp_path / features / "out" for features in ("cached", "computed"))
    assert len(losses(kept)) == 6
    assert losses(kept) == losses(computed)
    assert list(losses(kept, "kept_features").values()) == [0, 0, 0, 1, 1, 1]
