from __future__ import annotations

from typing import Any

import pytest

from mllm.errors import DataError
from mllm.metrics.counting import Counting, Reading, numbers_in
from mllm.registry import METRICS
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


def test_numbers_in_reads_no_number_before_a_word_that_multiplies_it() -> None:
    for word in ("hundred", "thousand", "million", "dozen"):
        assert numbers_in(f"two {word} and 3, two {word}s, Two {word.upper()}") == [3]


def test_numbers_in_knows_the_words_up_to_ninety_nine() -> None:
    small = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen"
    small += " seventeen eighteen nineteen"
    assert numbers_in(small) == list(range(20))
    tens = "twenty thirty forty fifty sixty seventy eighty ninety"
    assert numbers_in(tens) == list(range(20, 100, 10))
    for number, word in enumerate(tens.split(), start=2):
        assert numbers_in(f"{word}-one, {word}-nine") == [10 * number + 1, 10 * number + 9]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("None.", True),
        ("There are no dogs.", True),
        ("There are none. I looked twice", True),
        ("None, I think", True),
        ("I see nothing", True),
        ("nobody knows", False),
    ],
)
def test_nothing_is_zero(text: str, found: bool) -> None:
    assert Counting()([answer(0, text, "0")])["accuracy"] == found


def test_regions_are_counted_where_asked_for() -> None:
    two = GroundTruth(boxes=boxes([0, 0, 1, 1], [2, 2, 3, 3]))
    given = [
        Prediction(key="a", index=0, text="", boxes=two.boxes, truth=two),
        Prediction(key="b", index=1, text="", points=(Point(x=1, y=1),), truth=two),
        Prediction(key="c", index=2, text="", failure="malformed", truth=two),
        Prediction(key="d", index=3, text="", truth=GroundTruth(no_target=True)),
        Prediction(key="e", index=4, text="", failure="none", truth=GroundTruth(no_target=True)),
    ]
    counting = Counting(reading="regions")
    scores = counting(given)
    assert (scores["accuracy"], scores["within_1"], scores["valid"], scores["mae"]) == (3 / 5, 4 / 5, 4 / 5, 1 / 4)
    assert (scores["accuracy/0"], scores["accuracy/2"]) == (1, 1 / 3)
    assert [counting.value(each) for each in given] == [1, 0, 0, 1, 1]
    assert [counting.parts_of(each) for each in given] == [{"number": [true]} for true in "22200"]


def test_mae_is_missing_where_no_number_can_be_read() -> None:
    assert "mae" not in Counting()([answer(0, "many")])


@pytest.mark.parametrize("true", ["", "many", "2 or 3"])
def test_the_truth_is_one_number(true: str) -> None:
    with pytest.raises(DataError, match=rf"a:0: truth.texts: expected a number, or regions, found str '{true}'"):
        Counting()([answer(0, "3", true)])


def test_a_truth_without_a_text_has_no_number() -> None:
    with pytest.raises(DataError, match=r"a: truth.texts: expected a number, or regions, found nothing"):
        Counting()([Prediction(key="a", index=0, text="3", truth=GroundTruth())])


@pytest.mark.parametrize(
    ("reading", "depth"), [("last", "short_answer"), ("first", "short_answer"), ("molmo", "stated"), ("regions", None)]
)
def test_each_reading_has_its_depth(reading: str, depth: str | None) -> None:
    metric = METRICS.make({"type": "Counting", "reading": reading})
    assert metric.depth == depth
    assert set(metric.meanings) == set(Counting().meanings)
    assert metric.headline in metric.meanings
