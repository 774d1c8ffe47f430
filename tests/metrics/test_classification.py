from __future__ import annotations

import pytest

from mllm.errors import DataError
from mllm.metrics.classification import ClassAccuracy, named_classes
from mllm.types import GroundTruth, Prediction

CLASSES = ("rain", "snow", "heavy snow", "sun")


def answer(index: int, text: str, truth: str) -> Prediction:
    return Prediction(key=f"a:{index}", index=index, text=text, truth=GroundTruth(texts=(truth,), options=CLASSES))


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("rain", ["rain"]),
        ("The answer is Rain.", ["rain"]),
        ("There is heavy snow.", ["heavy snow"]),
        ("snow", ["snow"]),
        ("rain and sun", ["rain", "sun"]),
        ("rainy", []),
        ("", []),
    ],
)
def test_which_classes_are_named(text: str, named: list[str]) -> None:
    assert named_classes(text, CLASSES) == named


def test_scores() -> None:
    scores = ClassAccuracy()(
        [
            answer(0, "rain", "rain"),
            answer(1, "rain, sun", "rain"),
            answer(2, "sun", "sun"),
            answer(3, "fog", "rain"),
            answer(4, "", "rain"),
        ]
    )
    assert scores == {
        "accuracy": 0.4,
        "mean_class_accuracy": pytest.approx((1 / 4 + 1) / 2),
        "count": 5,
        "failure_none": 2,
        "failure_wrong_count": 1,
        "class_accuracy/rain": 1 / 4,
        "class_accuracy/sun": 1,
    }


@pytest.mark.parametrize(("text", "value"), [("rain", 1), ("rain, sun", 0), ("sun", 0)])
def test_the_value_of_an_answer(text: str, value: float) -> None:
    assert ClassAccuracy().value(answer(0, text, "rain")) == value


def test_each_score_but_the_count_and_those_of_classes_has_a_meaning() -> None:
    scores = ClassAccuracy()([answer(0, "rain", "rain")])
    assert set(scores) - {"count", "class_accuracy/rain"} == set(ClassAccuracy.meanings)
    assert ClassAccuracy.headline in scores


def test_errors() -> None:
    with pytest.raises(DataError, match=r"a:0: truth: expected one of the options .*, found list"):
        ClassAccuracy()([answer(0, "rain", "fog")])
