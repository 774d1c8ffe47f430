from __future__ import annotations

import logging

import pytest
import torch
from accelerate import Accelerator
from PIL import Image

from mllm.config.reward_args import read_reward_args
from mllm.pipeline.reward_log import FLAT_STEPS, RewardLog, Sampled, reward_values, shown_question
from mllm.records import read_item
from mllm.types import Box, Prediction
from tests.models import grpo_reference as reference


def sampled(rewards: list[float | None], *, tokens: int = 3, ended: bool = True, failure: str = "") -> Sampled:
    return Sampled(rewards=tuple(rewards), tokens=tokens, learned=tokens, ended=ended, failure=failure)


@pytest.mark.skipif(reference.FIXTURE is None, reason="no reference numbers beside this checkout")
def test_readings_are_those_of_trl() -> None:
    texts = reference.fixture()["completions"]
    answers = [
        sampled(row, tokens=len(ids), ended=ids[-1] == reference.END)
        for row, ids in zip(reference.rewards().tolist(), texts, strict=True)
    ]
    found = reward_values(answers, ["iou", "form"], torch.tensor([1.0, 0.5]), reference.GROUP)
    theirs = reference.cases("llama")["grpo_beta0.0"]["metrics"]
    assert found == pytest.approx({name: theirs[name] for name in found}, abs=1e-6)
    assert len(found) == 14


def test_a_reward_that_does_not_apply_is_left_out_of_its_mean() -> None:
    found = reward_values([sampled([1.0, None]), sampled([0.0, None])], ["a", "b"], torch.ones(2), 2)
    assert (found["reward"], found["rewards/a/mean"], found["rewards/b/std"]) == (0.5, 0.5, 0.0)
    assert "rewards/b/mean" not in found


def test_read_gives_means_extremes_and_shares_of_failures_since_the_last_log() -> None:
    log = RewardLog()
    for rewards, failure in (([1.0, 0.0], "none"), ([0.0, 0.0], "")):
        answers = [sampled([one], failure=failure) for one in rewards]
        log.sampled(reward_values(answers, ["a"], torch.ones(1), 2), shown=True)
    for value in (0.1, 0.3):
        log.updated({"clip_ratio/low_min": torch.tensor(value), "kl": torch.tensor(value)})
    found = log.read(Accelerator(cpu=True))
    assert found["reward"] == 0.25
    assert found["frac_reward_zero_std"] == 0.5
    assert found["failure/none"] == 0.5
    assert (found["clip_ratio/low_min"], found["kl"]) == (0.1, 0.2)
    assert log.read(Accelerator(cpu=True)) == {}


def test_it_is_said_once_that_no_group_has_a_spread(caplog: pytest.LogCaptureFixture) -> None:
    log = RewardLog()
    flat = reward_values([sampled([0.0]), sampled([0.0])], ["a"], torch.ones(1), 2)
    with caplog.at_level(logging.WARNING, logger="mllm.pipeline.reward_log"):
        for _ in range(2 * FLAT_STEPS):
            log.sampled(flat, shown=True)
    assert [f"last {FLAT_STEPS} samplings" in record.message for record in caplog.records] == [True]


def test_a_page_weighs_the_rewards_that_apply() -> None:
    turns = [{"from": "human", "value": "Which?"}, {"from": "gpt", "value": "this"}]
    item = read_item({"conversations": turns}, key="a")
    args = read_reward_args(dict(rewards=dict(iou="BoxIoU", form="Readable"), reward_weights=dict(form=0.5)))
    predictions = [Prediction.of(item, 0, text) for text in "abc"]
    answers = [sampled([0.5, 1.0]), sampled([0.25, None]), sampled([None, None])]
    found = shown_question(item, predictions, answers, args).answers
    assert [answer.reward for answer in found] == [1.0, 0.25, None]
    assert found[1].rewards == {"iou": 0.25, "form": None}


def test_shown_question_draws_the_regions_of_its_own_image() -> None:
    """Of an answer that also names a box on another one."""
    images = [Image.new("RGB", (40, 30)), Image.new("RGB", (50, 30))]
    turns = [
        {"from": "human", "value": "<image><image> the dog", "image": 1},
        {"from": "gpt", "value": "<boxes>", "boxes_seq": [[0]]},
    ]
    target = {"boxes": [[1, 1, 9, 9]], "boxes_image": [1]}
    item = read_item({"images": images, "target": target, "conversations": turns}, key="a:1")
    boxes = tuple(Box(x1=2, y1=2, x2=8, y2=8, image=number) for number in (0, 1))
    prediction = Prediction(key="a:1", index=0, text="", boxes=boxes, truth=item.truth)
    args = read_reward_args(dict(rewards=dict(a="BoxIoU")))
    shown = shown_question(item, [prediction], [sampled([0.0])], args)
    assert shown.image == item.images[1]
    assert shown.answers[0].regions == boxes[1:]
    assert [each.image for each in shown.true] == [1]
