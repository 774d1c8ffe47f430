from __future__ import annotations

import pytest

from mllm.errors import DataError
from mllm.metrics.choice import ChoiceAccuracy, chosen_letter
from mllm.types import Prediction, Truth

OPTIONS = ("table", "a fork", "candle", "The floor")


def answer(index: int, text: str, letter: str = "B", options: tuple[str, ...] = OPTIONS) -> Prediction:
    truth = Truth(texts=(letter,), options=options)
    return Prediction(key=f"a:{index}", index=index, text=text, truth=truth)


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("B", "B"),
        ("b.", "B"),
        ("(B)", "B"),
        ("The answer is B.", "B"),
        ("The answer is (B). The answer is (A).", "B"),
        ("The answer is B. BECAUSE: (A) is wrong.", "B"),
        ("B. a fork", "B"),
        ("(B) a fork", "B"),
        ("Option B", "B"),
        ("It is (B), I think", "B"),
        ("fork", "B"),
        ("The answer is the fork.", "B"),
        ("floor", "D"),
        ("A", "A"),
        ("A dog", None),
        ("(A) or (B)?", "A"),
        ("between (A) and (B)", None),
        ("I see a fork there", None),
        ("", None),
        ("Z", "Z"),
    ],
)
def test_which_letter_is_meant(text: str, letter: str | None) -> None:
    assert chosen_letter(text, OPTIONS) == letter


def test_words_come_before_letters() -> None:
    assert chosen_letter("C", ("B", "C")) == "B"


def test_scores() -> None:
    scores = ChoiceAccuracy()([answer(0, "B"), answer(1, "E"), answer(2, "who knows"), answer(3, "A", "A", ("x", "y"))])
    assert scores == {
        "accuracy": 0.5,
        "count": 4,
        "failure_none": 1,
        "failure_out_of_range": 1,
        "chance": (3 * 0.25 + 0.5) / 4,
    }


def test_errors() -> None:
    with pytest.raises(DataError, match="a:0: expected options and the letter of one of them as the truth"):
        ChoiceAccuracy()([answer(0, "B", "E")])
    with pytest.raises(DataError, match="two predictions for item 0"):
        ChoiceAccuracy()([answer(0, "B"), answer(0, "B")])
