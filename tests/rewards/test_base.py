from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from mllm.errors import DataError
from mllm.registry import REWARDS
from mllm.rewards.base import mean, score_answer
from mllm.types import Prediction
from tests.rewards.answers import answered, box, said, truth


def reward(value: Any) -> Any:
    def give(prediction: Prediction) -> Any:
        return value() if callable(value) else value

    return give


def raising(error: Exception) -> Any:
    def give() -> None:
        raise error

    return give


class Odd(Exception):
    pass


@pytest.mark.parametrize(
    ("value", "found"),
    [(1, 1.0), (True, 1.0), (0.25, 0.25), (np.float32(0.5), 0.5), (-2, -2.0), (None, None)],
)
def test_score_takes_every_finite_number_and_none(value: Any, found: float | None) -> None:
    assert score_answer({"mine": reward(value)}, said("a", "a")) == {"mine": found}


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, "1", [1.0], 1j, pytest.param(10**400, id="huge")])
def test_score_refuses_what_is_no_finite_number_and_names_the_item(value: Any) -> None:
    with pytest.raises(DataError, match=r"a\.jsonl:1: reward 'mine': expected a finite number, or None, found"):
        score_answer({"right": reward(1.0), "mine": reward(value)}, said("a", "a"))


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ZeroDivisionError("division by zero"), "a.jsonl:1: reward 'mine': raised ZeroDivisionError: division by zero"),
        (KeyError("category"), "a.jsonl:1: reward 'mine': raised KeyError: 'category'"),
        (StopIteration(), "a.jsonl:1: reward 'mine': raised StopIteration"),
        (Odd("my own kind"), "a.jsonl:1: reward 'mine': raised Odd: my own kind"),
        (DataError(where="a.jsonl:1", field="truth", expected="a box", found="none"), "a.jsonl:1: reward 'mine': "),
    ],
)
def test_a_bug_in_a_reward_is_an_error_and_no_reward_of_0(error: Exception, message: str) -> None:
    with pytest.raises(DataError) as caught:
        score_answer({"mine": reward(raising(error))}, said("a", "a"))
    assert str(caught.value).startswith(message)
    if not isinstance(error, DataError):
        assert f", in {__file__}:{raising.__code__.co_firstlineno + 2}" in str(caught.value)


def test_a_reward_that_cannot_be_called_is_an_error_with_its_item() -> None:
    with pytest.raises(DataError, match=r"a\.jsonl:1: reward 'mine': raised TypeError: .*, when it was called"):
        score_answer({"mine": lambda: 1.0}, said("a", "a"))  # type: ignore[dict-item]


def test_mean_is_of_those_that_apply() -> None:
    assert mean([1.0, None, 0.0]) == 0.5
    assert mean([None]) is None


FULL = {
    "BoxIoU": {},
    "BoxSetF1": {},
    "Readable": {},
    "PointInside": {},
    "RightCount": {},
    "MetricScore": {"metric": "REC"},
}


@pytest.mark.parametrize("name", FULL)
def test_the_true_answer_gets_1_and_swapped_corners_get_nothing(name: str) -> None:
    """LISA's reward in Visual-RFT gives the truth with swapped corners its maximum."""
    give = REWARDS.make({"type": name, **FULL[name]})
    right = answered('{"bbox_2d": [40, 20, 120, 100]}', truth(box(40, 20, 120, 100)))
    swapped = answered('{"bbox_2d": [120, 100, 40, 20]}', truth(box(40, 20, 120, 100)))
    assert swapped.failure == "inverted"
    assert (give(right), give(swapped)) == (1.0, 0.0)


def test_every_reward_is_found_by_its_name() -> None:
    assert {*FULL, "ExactAnswer", "VQAAnswer", "Length"} <= set(REWARDS.names())
