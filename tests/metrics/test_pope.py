from __future__ import annotations

import pytest

from mllm.errors import DataError
from mllm.metrics.pope import POPE, first_words
from mllm.types import Prediction, Truth


def answers(*pairs: tuple[str, str]) -> list[Prediction]:
    return [
        Prediction(key=f"a:{n}", index=n, text=text, truth=Truth(texts=(label,), options=("yes", "no")))
        for n, (text, label) in enumerate(pairs)
    ]


@pytest.mark.parametrize(
    ("text", "no"),
    [
        ("no", True),
        ("No, there is none", True),
        ("The answer is no .", True),
        ("There is not a dog", True),
        ("Yes. There is no doubt", False),
        ("yes", False),
        ("nothing", False),
        ("", False),
    ],
)
def test_the_first_sentence_decides(text: str, no: bool) -> None:
    assert bool(first_words(text) & {"no", "not"}) is no


def test_scores() -> None:
    scores = POPE()(
        answers(("yes", "yes"), ("yes", "yes"), ("yes", "no"), ("no", "yes"), ("no", "no"), ("a dog", "no"))
    )
    assert scores == {
        "accuracy": 0.5,
        "precision": 0.5,
        "recall": pytest.approx(2 / 3),
        "f1": pytest.approx(2 * 0.5 * (2 / 3) / (0.5 + 2 / 3)),
        "yes_ratio": pytest.approx(4 / 6),
        "count": 6,
        "failure_none": 1,
    }


def test_no_true_positives() -> None:
    scores = POPE()(answers(("no", "yes"), ("no", "no")))
    assert (scores["precision"], scores["recall"], scores["f1"], scores["yes_ratio"]) == (0, 0, 0, 0)


def test_errors() -> None:
    with pytest.raises(DataError, match="a:0: expected yes or no as the truth"):
        POPE()(answers(("yes", "maybe")))
