"""Parity with the public evaluation: answers, scores and normalised texts that it gave."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mllm.errors import DataError
from mllm.metrics.vqa import AnswerAccuracy, VQAAccuracy, consensus, normalised
from mllm.types import Prediction, Truth

OFFICIAL = json.loads((Path(__file__).parent / "vqav2_official.json").read_text())["questions"]
NORMALISED = json.loads((Path(__file__).parent / "vqa_normalised.json").read_text())["normalise"]


def answer(index: int, text: str, *references: str) -> Prediction:
    return Prediction(key=f"a:{index}", index=index, text=text, truth=Truth(texts=references))


@pytest.mark.parametrize("question", OFFICIAL)
def test_scores_are_the_official_ones(question: str) -> None:
    entry = OFFICIAL[question]
    for text, percent in entry["predictions"]:
        assert round(100 * consensus(text, entry["answers"]), 2) == percent, text


@pytest.mark.parametrize(("text", "expected"), NORMALISED.items())
def test_normalised_texts_are_the_public_ones(text: str, expected: str) -> None:
    assert normalised(text) == expected


@pytest.mark.parametrize(("matches", "score"), [(0, 0), (1, 0.3), (2, 0.6), (3, 0.9), (4, 1), (10, 1)])
def test_three_others_are_enough(matches: int, score: float) -> None:
    others = ["dog"] * matches + [f"cat {number}" for number in range(10 - matches)]
    assert consensus("dog", others) == pytest.approx(score)


def test_signs_count_where_all_agree() -> None:
    assert consensus("a dog", ["dog", "a dog", "a dog", "a dog"]) < 1  # the references keep their articles
    assert consensus("Dog", ["dog"] * 10) == 0
    assert consensus("Dog.", ["dog"] * 9 + ["cat"]) == 1


def test_vqa_accuracy_of_a_set() -> None:
    people = ["two"] * 5 + ["2"] * 5
    scores = VQAAccuracy()(
        [
            answer(1, "", *people),
            answer(0, "The answer is 2. The answer is 7.", *people),
            answer(2, "So the answer is 9.", *people),
        ]
    )
    assert scores == {"vqa_accuracy": pytest.approx(1 / 3), "count": 3, "failure_none": 1}
    with pytest.raises(DataError, match=r"a:0: expected the answers of at least two people as the truth, found 1"):
        VQAAccuracy()([answer(0, "yes", "yes")])


def test_answer_accuracy() -> None:
    scores = AnswerAccuracy()(
        [
            answer(0, "The answer is a red car.", "red car"),
            answer(1, "Two", "2"),
            answer(2, "blue", "red"),
            answer(3, "", "x"),
        ]
    )
    assert scores == {"accuracy": 0.5, "count": 4, "failure_none": 1}
    with pytest.raises(DataError, match="a:0: expected at least one text as the truth, found none"):
        AnswerAccuracy()([answer(0, "yes")])
