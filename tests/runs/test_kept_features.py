"""Runs that keep features across epochs."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from mllm.pipeline.finetune import main
from tests.pipeline.rewarded import history, write_rewarded
from tests.pipeline.tiny import SCENES, losses, write_config

TWO_EPOCHS = dict(max_steps=-1, num_train_epochs=2, per_device_train_batch_size=3, save_strategy="steps", save_steps=4)
FEW = dict(SCENES, count=8)
FROZEN = dict(freeze=["vision_tower"])
ONLY = dict(validation=None, test=None, multitest=None)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MLLM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "features"


def train(folder: Path, features: str, *, config: Path | None = None, **data: Any) -> Path:
    """The folder of a run of two epochs."""
    given = dict(ONLY, train=FEW, images=dict(features=features), **data)
    config = config or write_config(folder, model_args=FROZEN, training_args=TWO_EPOCHS, data_args=given)
    assert main([str(config), "--output_dir", str(folder / features), "--do_train", "True"]) == 0
    return folder / features


def test_losses_are_those_without_to_the_bit_and_a_resumed_run_goes_on(tmp_path: Path, cache: Path) -> None:
    kept, without = train(tmp_path, "cached"), train(tmp_path, "computed")
    assert len(losses(without)) == 6
    assert losses(kept) == losses(without)
    assert losses(kept, "grad_norm") == losses(without, "grad_norm")
    assert list(losses(kept, "kept_features").values()) == [0, 0, 0, 1, 1, 1]
    assert losses(without, "kept_features") == {}
    assert f"features        of vision tower: kept in {cache}, up to 20 GB" in (kept / "train.log").read_text()
    resumed = tmp_path / "resumed"
    shutil.copytree(kept / "checkpoint-4", resumed / "checkpoint-4")
    config = write_config(
        tmp_path,
        model_args=FROZEN,
        training_args=TWO_EPOCHS,
        data_args=dict(ONLY, train=FEW, images=dict(features="cached")),
    )
    flags = ["--do_train", "True", "--resume_from_checkpoint", "auto"]
    assert main([str(config), "--output_dir", str(resumed), *flags]) == 0
    assert losses(resumed) == losses(kept)
    assert losses(resumed, "kept_features")[5] == 1


def test_augmented_images_are_known_by_what_they_became(tmp_path: Path) -> None:
    data: dict[str, Any] = dict(ONLY, train=dict(type="Augmented", dataset=FEW, flip=0.5))
    found = {}
    for features in ("cached", "computed"):
        given = dict(data, images=dict(features=features))
        config = write_config(tmp_path, model_args=FROZEN, training_args=TWO_EPOCHS, data_args=given)
        found[features] = train(tmp_path, features, config=config)
    assert losses(found["cached"]) == losses(found["computed"])
    second = list(losses(found["cached"], "kept_features").values())[3:]
    assert 0 < sum(second) < 3


@pytest.mark.slow
def test_a_run_by_rewards_takes_the_images_of_its_updates_from_its_rollouts(tmp_path: Path) -> None:
    found = {}
    for features in ("cached", "computed"):
        data = dict(images=dict(features=features), train=dict(FEW, questions_per_scene=2))
        config = write_rewarded(tmp_path, model_args=FROZEN, training_args=dict(max_steps=2), data_args=data)
        found[features] = history(train(tmp_path, features, config=config))
    shares = [entry.pop("kept_features") for entry in found["cached"]]
    assert shares == [0.5, 0.5]
    assert found["cached"] == found["computed"]


def test_a_vision_side_that_trains_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = write_config(tmp_path, data_args=dict(ONLY, train=FEW, images=dict(features="cached")))
    assert main([str(config), "--output_dir", str(tmp_path / "out"), "--do_train", "True"]) == 1
    said = capsys.readouterr().err.splitlines()[-1]
    expected = "data_args.images.features: expected 'computed', found 'cached'; training changes its vision tower"
    assert said == f"ConfigError: {expected}", said
