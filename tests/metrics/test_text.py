from __future__ import annotations

import pytest

from mllm.errors import DataError
from mllm.metrics.text import ExactMatch, is_exact_match
from mllm.types import GroundTruth, Prediction


def answer(index: int, text: str, *references: str) -> Prediction:
    return Prediction(key=f"a:{index}", index=index, text=text, truth=GroundTruth(texts=references))


@pytest.mark.parametrize(
    ("text", "reference"),
    [
        ("Two", "two"),
        (" two. ", "two"),
        ("The answer is yes .", "the answer is yes"),
        ("two", "Two."),
        ("STRASSE", "Straße"),
        ("**two**", "two"),
        ("<think>one</think>Two.", "two"),
        ("\\boxed{two}", "two"),
        ("'two'", "'two'"),
    ],
)
def test_case_outer_spaces_and_one_full_stop_do_not_matter(text: str, reference: str) -> None:
    assert is_exact_match(answer(0, text, reference))


@pytest.mark.parametrize(
    ("text", "reference"),
    [("two", "2"), ("a dog", "dog"), ("two  dogs", "two dogs"), ("etc..", "etc"), ("two!", "two"), ("", "two")],
)
def test_everything_else_does(text: str, reference: str) -> None:
    assert not is_exact_match(answer(0, text, reference))


def test_any_reference_counts() -> None:
    scores = ExactMatch()([answer(1, "no", "yes"), answer(0, "a cat", "cat", "A cat."), answer(2, "yes", "Yes")])
    assert scores == {"exact_match": 2 / 3, "count": 3}


def test_errors() -> None:
    with pytest.raises(DataError, match="no predictions to score"):
        ExactMatch()([])
    with pytest.raises(DataError, match=r"a:0: truth\.texts: expected at least one text, found nothing"):
        ExactMatch()([answer(0, "yes")])
    with pytest.raises(DataError, match="a:3: two predictions for item 3, expected one"):
        ExactMatch()([answer(3, "yes", "yes"), answer(3, "no", "yes")])
