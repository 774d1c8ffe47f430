from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mllm.errors import DataError
from mllm.metrics.text import ExactMatch, FreeText, is_exact_match, longest_common_subsequence, rouge_l, words_of
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
    assert scores == {"exact_match": 2 / 3, "count": 3, "failure_none": 0}


def test_each_score_but_the_count_has_a_meaning() -> None:
    scores = ExactMatch()([answer(0, "yes", "yes")])
    assert set(scores) - {"count"} == set(ExactMatch.meanings)
    assert ExactMatch.headline in scores


def test_errors() -> None:
    with pytest.raises(DataError, match="expected predictions to score, found none"):
        ExactMatch()([])
    with pytest.raises(DataError, match=r"a:0: truth\.texts: expected at least one text, found nothing"):
        ExactMatch()([answer(0, "yes")])
    with pytest.raises(DataError, match="a:3: expected one prediction for item 3, found two"):
        ExactMatch()([answer(3, "yes", "yes"), answer(3, "no", "yes")])


@pytest.mark.parametrize(
    ("text", "reference", "score"),
    [
        ("the cat sat on the mat", "the cat is on the mat", 0.8333333333333334),
        ("A man, a plan!", "a plan: A man", 0.5),
        ("", "a dog", 0),
        ("x-ray 3.5", "x ray 3 5", 1),
        ("don't", "do not", 0),
        ("the the the the", "the cat the", 0.5714285714285715),
        ("b a c b d a b", "a b c b d a b", 0.8571428571428571),
        ("one", "two", 0),
        (
            "A dog runs across the green field while a boy throws a ball",
            "A boy throws a ball while his dog runs over the field",
            0.4,
        ),
        ("snake_case words", "snake case words", 1),
    ],
)
def test_rouge_l_is_that_of_rouge_score(text: str, reference: str, score: float) -> None:
    """Given by rouge_score 0.1.2: rougeL, F, not stemmed."""
    assert rouge_l(words_of(text), words_of(reference)) == pytest.approx(score, abs=1e-6)
    assert FreeText()([answer(0, text, reference)])["rouge_l"] == pytest.approx(score, abs=1e-6)


@given(st.lists(st.sampled_from("abc"), max_size=12), st.lists(st.sampled_from("abcd"), max_size=12))
def test_longest_common_subsequence_is_that_of_the_usual_table(first: list[str], second: list[str]) -> None:
    table = [[0] * (len(second) + 1) for _ in range(len(first) + 1)]
    for i, one in enumerate(first):
        for j, other in enumerate(second):
            table[i + 1][j + 1] = table[i][j] + 1 if one == other else max(table[i][j + 1], table[i + 1][j])
    assert longest_common_subsequence(first, second) == table[-1][-1]


def test_words_of_any_script() -> None:
    assert words_of("Le caf\u00e9 d'\u00c9t\u00e9, \u65e5\u672c!") == [
        "le",
        "caf\u00e9",
        "d",
        "\u00e9t\u00e9",
        "\u65e5\u672c",
    ]


def test_free_text_of_a_set() -> None:
    scores = FreeText()(
        [
            answer(2, "", "a dog"),
            answer(0, "<think>hm</think>**a red car**", "a car", "the red car parks"),
            answer(1, "Yes.", "yes"),
        ]
    )
    assert scores == {
        "rouge_l": pytest.approx((0.8 + 1 + 0) / 3),
        "exact_match": pytest.approx(1 / 3),
        "words": pytest.approx(4 / 3),
        "reference_words": pytest.approx((2 + 2 + 4 + 1) / 4),
        "count": 3,
        "failure_none": 1,
    }
    assert set(scores) - {"count"} == set(FreeText.meanings)
    with pytest.raises(DataError, match=r"a:0: truth\.texts: expected at least one reference"):
        FreeText()([answer(0, "x")])
