from __future__ import annotations

from typing import Any

import pytest

from mllm.config.reward_args import read_reward_args
from mllm.errors import ConfigError

REWARDS = {"iou": {"type": "BoxIoU"}, "form": "Readable"}


def test_weights_are_1_where_none_is_given() -> None:
    assert read_reward_args({"rewards": REWARDS, "reward_weights": {"form": 0.5}}).weights == [1.0, 0.5]


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({}, "reward_args.rewards: expected a non-empty dict, found nothing"),
        ({"rewards": REWARDS, "num_generation": 4}, "num_generation: unknown name; did you mean 'num_generations'"),
        (
            {"rewards": REWARDS, "num_generations": 1},
            "num_generations: expected a whole number from 2 to 4,096, found int '1'",
        ),
        ({"rewards": REWARDS, "num_generations": 2**62}, "num_generations: expected a whole number from 2 to 4,096"),
        ({"rewards": REWARDS, "num_iterations": 2**62}, "num_iterations: expected a whole number from 1 to 4,096"),
        ({"rewards": REWARDS, "temperature": 1e-300}, "temperature: expected a number from 0.01 to 100"),
        ({"rewards": REWARDS, "epsilon": 1e308}, "epsilon: expected a number above 0 and at most 1,000"),
        ({"rewards": REWARDS, "reward_weights": {"iou": 1e308}}, "iou: expected a number from -1,000 to 1,000"),
        ({"rewards": REWARDS, "loss_type": "dappo"}, "loss_type: expected one of"),
        ({"rewards": REWARDS, "top_p": 0}, "top_p: expected a number"),
        ({"rewards": {"iou": {"type": "BoxIuo"}}}, "unknown reward type 'BoxIuo'; did you mean 'BoxIoU'"),
        ({"rewards": {"iou": {"type": "BoxIoU", "treshold": 1}}}, "treshold: unknown name; did you mean 'threshold'"),
        ({"rewards": []}, "rewards: expected a non-empty dict, found list '[]'"),
        ({"rewards": {"": "Readable"}}, "rewards.keys: expected a non-empty text, found str ''"),
        (
            {"rewards": REWARDS, "reward_weights": {"iou": 0, "form": 0.0}},
            "reward_weights: expected one that is not 0, found 0 for each reward",
        ),
        (
            {"rewards": REWARDS, "epsilon_high": 0.28, "delta": 1.28},
            "delta: expected above 1.28, the bound of the ratio, found 1.28",
        ),
        ({"rewards": REWARDS, "reward_weights": {"fom": 1}}, "reward_weights: expected names of rewards: iou, form"),
    ],
)
def test_what_is_wrong_is_named(section: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_reward_args(section)
    assert message in str(caught.value)
