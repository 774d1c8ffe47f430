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
        [answer(0, "rain", "rain"), answer(1, "rain, sun", "rain"), answer(2, "sun", "sun"), answer(3, "fog", "rain")]
    )
    assert scores == {
        "accuracy": 0.5,
        "mean_class_accuracy": pytest.approx((1 / 3 + 1) / 2),
        "count": 4,
        "failure_none": 1,
        "failure_wrong_count": 1,
        "class_accuracy/rain": 1 / 3,
        "class_accuracy/sun": 1,
    }


def test_errors() -> None:
    with pytest.raises(DataError, match=r"a:0: truth: expected one of the options .*, found list"):
        ClassAccuracy()([answer(0, "rain", "fog")])
