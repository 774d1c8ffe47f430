from __future__ import annotations

from typing import Any

import pytest

from mllm.errors import DataError
from mllm.metrics.counting import Counting, Reading, numbers_in
from mllm.types import GroundTruth, Point, Prediction
from tests.metrics.official_boxes import boxes


def answer(index: int, text: str, true: str = "3", **given: Any) -> Prediction:
    return Prediction(key=f"a:{index}", index=index, text=text, truth=GroundTruth(texts=(true,)), **given)


def test_by_hand() -> None:
    texts = ["3", "There are three dogs.", "The answer is 4.", "seven", "many", "", "3 cats and 2 dogs, so 5."]
    scores = Counting()([answer(index, text) for index, text in enumerate(texts)])
    assert scores == {
        "accuracy": 2 / 7,
        "within_1": 3 / 7,
        "valid": 5 / 7,
        "mae": (0 + 0 + 1 + 4 + 2) / 5,
        "accuracy/3": 2 / 7,
        "count": 7,
        "failure_none": 2,
    }
    assert set(Counting().meanings) | {"accuracy/3", "count"} == set(scores)


@pytest.mark.parametrize(
    ("reading", "text", "right"),
    [
        ("last", "3 cats and 2 dogs", False),
        ("first", "3 cats and 2 dogs", True),
        ("last", "2 dogs, 1 cat: 3", True),
        ("molmo", "Counting the dogs shows a total of 3.", True),
        ("molmo", "I counted a total of 3 dogs", True),
        ("molmo", "There are 3 dogs", False),
        ("molmo", "It is three", True),
        ("last", "<think>4, no 5</think> 3", True),
        ("last", "**3**", True),
        ("last", r"\boxed{3}", True),
        ("last", "The answer is 3. In 2 rows.", True),
    ],
)
def test_the_reading_says_which_number_counts(reading: Reading, text: str, right: bool) -> None:
    assert Counting(reading=reading)([answer(0, text)])["accuracy"] == right


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("zero one Twelve ninety-nine", [0, 1, 12, 99]),
        ("1,234 and 12", [1234, 12]),
        ("3.5 of 0.25", []),
        ("4.0", [4]),
        ("-2", []),
        ("two hundred and 3", [3]),
        ("a dozen, two dozen", []),
        ("someone, twofold, 3rd, B4, 1st", []),
        ("99999999999999999999", []),
        ("", []),
    ],
)
def test_numbers_in_reads_whole_numbers_alone(text: str, numbers: list[int]) -> None:
    assert numbers_in(text) == numbers


@pytest.mark.parametrize(("text", "found"), [("None.", True), ("There are no dogs.", True), ("nobody knows", False)])
def test_nothing_is_zero(text: str, found: bool) -> None:
    assert Counting()([answer(0, text, "0")])["accuracy"] == found


def test_regions_are_counted_where_asked_for() -> None:
    two = GroundTruth(boxes=boxes([0, 0, 1, 1], [2, 2, 3, 3]))
    given = [
        Prediction(key="a", index=0, text="", boxes=two.boxes, truth=two),
        Prediction(key="b", index=1, text="", points=(Point(x=1, y=1),), truth=two),
        Prediction(key="c", index=2, text="", failure="malformed", truth=two),
        Prediction(key="d", index=3, text="", truth=GroundTruth(no_target=True)),
    ]
    scores = Counting(reading="regions")(given)
    assert (scores["accuracy"], scores["within_1"], scores["valid"], scores["mae"]) == (2 / 4, 3 / 4, 3 / 4, 1 / 3)
    assert (scores["accuracy/0"], scores["accuracy/2"]) == (1, 1 / 3)


def test_mae_is_missing_where_no_number_can_be_read() -> None:
    assert "mae" not in Counting()([answer(0, "many")])


@pytest.mark.parametrize("true", ["", "many", "2 or 3"])
def test_the_truth_is_one_number(true: str) -> None:
    with pytest.raises(DataError, match=r"a:0: truth.texts: expected a number, or regions, found"):
        Counting()([answer(0, "3", true)])
