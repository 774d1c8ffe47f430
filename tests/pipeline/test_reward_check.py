from __future__ import annotations

from pathlib import Path

import pytest

from mllm.config.command_line import parse
from mllm.config.config import load
from mllm.pipeline.build import build
from mllm.pipeline.policy_trainer import PolicyTrainer
from mllm.pipeline.reward_check import reference_rewards
from tests.pipeline.rewarded import write_rewarded


def test_true_answers_score_1_but_for_what_the_codec_rounds_and_a_whole_image_little(tmp_path: Path) -> None:
    reward_args = dict(rewards=dict(iou="BoxIoU", half=dict(type="BoxIoU", threshold=0.5), form="Readable"))
    config, args = load(
        parse([str(write_rewarded(tmp_path, reward_args)), "--do_train", "--output_dir", str(tmp_path)])
    )
    trainer = build(config.to_dict(), args)
    assert isinstance(trainer, PolicyTrainer)
    found = reference_rewards(trainer.train_dataset, trainer.rewards)  # type: ignore[arg-type]
    assert found["true answers"]["iou"] == pytest.approx(0.9, abs=0.1)
    assert (found["true answers"]["half"], found["true answers"]["form"]) == (1.0, 1.0)
    assert found["whole image"]["iou"] < 0.4
    assert found["whole image"]["form"] == 1.0
