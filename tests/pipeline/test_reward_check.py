from __future__ import annotations

from pathlib import Path

import pytest

from mllm.config.command_line import parse
from mllm.config.config import load
from mllm.pipeline.build import build
from mllm.pipeline.policy_trainer import PolicyTrainer
from mllm.pipeline.reward_check import reference_rewards
from tests.pipeline.rewarded import with_a_broken_image, write_rewarded


def reference(config: Path, out: Path) -> dict[str, dict[str, float | None]]:
    loaded, args = load(parse([str(config), "--do_train", "--output_dir", str(out)]))
    trainer = build(loaded.to_dict(), args)
    assert isinstance(trainer, PolicyTrainer)
    return reference_rewards(trainer.train_dataset, trainer.rewards)  # type: ignore[arg-type]


def test_true_answers_score_1_but_for_what_the_codec_rounds_and_a_whole_image_little(tmp_path: Path) -> None:
    reward_args = dict(rewards=dict(iou="BoxIoU", half=dict(type="BoxIoU", threshold=0.5), form="Readable"))
    found = reference(write_rewarded(tmp_path, reward_args), tmp_path)
    assert found["true answers"]["iou"] == pytest.approx(0.9, abs=0.1)
    assert (found["true answers"]["half"], found["true answers"]["form"]) == (1.0, 1.0)
    assert (found["whole image"]["iou"] or 1) < 0.4
    assert found["whole image"]["form"] == 1.0


def test_an_item_that_training_passes_over_is_not_looked_at_and_a_reward_that_never_applies_is_none(
    tmp_path: Path,
) -> None:
    reward_args = dict(rewards=dict(iou="BoxIoU", vqa="VQAAnswer"))
    found = reference(write_rewarded(tmp_path, reward_args, data_args=with_a_broken_image(tmp_path)), tmp_path)
    assert (found["true answers"]["iou"] or 0) > 0.5
    assert found["true answers"]["vqa"] is None
