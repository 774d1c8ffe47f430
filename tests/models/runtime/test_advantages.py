from __future__ import annotations

import math

import pytest
import torch

from mllm.models.runtime.advantages import advantages, std_without_nan, total_rewards

NAN = math.nan


def of(rewards: list[float], **options: object) -> list[float]:
    return advantages(torch.tensor([rewards]).T, torch.ones(1), group=2, **options).tolist()  # type: ignore[arg-type]


def test_advantages_are_of_the_group_and_0_without_spread() -> None:
    assert of([1, 0, 0.5, 0.5]) == pytest.approx([0.5 / (0.5**0.5 + 1e-4), -0.5 / (0.5**0.5 + 1e-4), 0, 0])
    assert of([1, 0, 3, 3], scale="none") == [0.5, -0.5, 0, 0]
    deviation = float(torch.tensor([1.0, 0, 3, 3]).std())
    assert of([1, 0, 3, 3], scale="batch") == pytest.approx([0.5 / (deviation + 1e-4), -0.5 / (deviation + 1e-4), 0, 0])


def test_an_answer_to_which_no_reward_applies_counts_nowhere() -> None:
    assert of([1, NAN, NAN, NAN], scale="none") == [0, 0, 0, 0]
    assert of([1, 0, NAN, NAN], scale="batch") == pytest.approx([*of([1, 0], scale="batch"), 0, 0])
    normal = of([1, 0, NAN, NAN], aggregation="normalize_then_sum")
    assert normal == pytest.approx([*of([1, 0], aggregation="normalize_then_sum"), 0, 0])


def test_a_reward_that_does_not_apply_is_left_out_of_the_sum() -> None:
    rewards = torch.tensor([[1.0, NAN], [0.0, 2.0], [NAN, NAN]])
    found = total_rewards(rewards, torch.tensor([1.0, 0.5]))
    assert found[:2].tolist() == [1.0, 1.0]
    assert found[2].isnan()


def test_spread_is_that_of_a_sample() -> None:
    values = torch.tensor([[1.0, 2.0, NAN, 4.0], [7.0, NAN, NAN, NAN]])
    assert std_without_nan(values).tolist() == pytest.approx([float(torch.tensor([1.0, 2.0, 4.0]).std()), 0.0])
