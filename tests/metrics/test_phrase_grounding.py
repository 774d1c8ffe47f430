from __future__ import annotations

from typing import Literal

import pytest

from mllm.errors import DataError
from mllm.metrics.phrase_grounding import PhraseGrounding
from mllm.registry import METRICS
from tests.metrics.official_boxes import SCORES, answer, boxes, stored_answers

A, B, FAR = [0, 0, 10, 10], [20, 0, 30, 10], [50, 50, 60, 60]
PEOPLE = {"type": "people"}


@pytest.mark.parametrize("protocol", ["any", "merged"])
def test_scores_equal_the_public_code(protocol: Literal["any", "merged"]) -> None:
    phrases = [one for one in stored_answers("type") if one.truth.boxes]
    scores = PhraseGrounding(protocol=protocol)(phrases)
    for k, by_type in SCORES[f"flickr_{protocol}"].items():
        score = f"recall@{'all' if k == '-1' else k}"
        found = {name: scores[score if name == "all" else f"{score}/{name}"] for name in by_type}
        assert found == pytest.approx(by_type, abs=1e-6)


def test_a_box_counts_by_its_rank() -> None:
    given = [
        answer(0, boxes(A), boxes(A, B), group=PEOPLE),
        answer(1, boxes(FAR, B), boxes(A, B), group=PEOPLE),
        answer(2, boxes(*[FAR] * 10, A), boxes(A), group=PEOPLE),
        answer(3, (), boxes(A), group=PEOPLE),
    ]
    scores = PhraseGrounding()(given)
    assert [scores[f"recall@{k}"] for k in (1, 5, 10, "all")] == [1 / 4, 2 / 4, 2 / 4, 3 / 4]
    assert (scores["count"], scores["failure_none"], scores["phrases/people"]) == (4, 1, 4)


def test_merged_asks_for_the_box_around_all() -> None:
    around = answer(0, boxes([0, 0, 30, 10]), boxes(A, B), group=PEOPLE)
    one = answer(1, boxes(A), boxes(A, B), group=PEOPLE)
    assert PhraseGrounding(protocol="merged")([around, one])["recall@1"] == 1 / 2
    assert PhraseGrounding(protocol="any")([around, one])["recall@1"] == 1 / 2
    assert PhraseGrounding(protocol="any")([one])["recall@1"] == 1


def test_a_phrase_of_two_types_counts_in_both() -> None:
    scores = PhraseGrounding()([answer(0, boxes(A), boxes(A), group={"type": "people/bodyparts"})])
    assert scores["recall@1/people"] == scores["recall@1/bodyparts"] == 1


def test_the_break_down_may_be_left_out() -> None:
    metric = PhraseGrounding(group=None)
    assert set(metric([answer(0, boxes(A), boxes(A))])) - {"count"} == set(metric.meanings)


def test_the_value_is_whether_the_first_box_is_right() -> None:
    metric = PhraseGrounding()
    given = [answer(0, boxes(A), boxes(A, B)), answer(1, boxes(FAR, A), boxes(A)), answer(2, (), boxes(A))]
    assert [metric.value(each) for each in given] == [1, 0, 0]
    assert metric.value(answer(0, boxes([0, 0, 10, 5]), boxes(A))) == 1  # an overlap of just a half
    assert metric.headline in metric.meanings


@pytest.mark.parametrize("protocol", ["any", "merged"])
def test_each_protocol_has_a_name_in_configs(protocol: str) -> None:
    metric = METRICS.make({"type": "PhraseGrounding", "protocol": protocol, "group": None})
    assert metric.value(answer(0, boxes(A), boxes(A))) == 1


def test_parts_are_the_types_of_a_phrase() -> None:
    phrase = answer(0, true=boxes(A), group={"type": "people/bodyparts"})
    assert PhraseGrounding().parts_of(phrase) == {"type": ["people", "bodyparts"]}
    assert PhraseGrounding(group=None).parts_of(phrase) == {}


def test_clipped_answers_are_counted() -> None:
    given = [answer(0, boxes(A), boxes(A), clipped=1), answer(1, boxes(A), boxes(A))]
    assert PhraseGrounding(group=None)(given)["clipped"] == 1


def test_errors() -> None:
    with pytest.raises(DataError, match=r"a:0: group: expected a value for 'type', .* found nothing"):
        PhraseGrounding()([answer(0, boxes(A), boxes(A))])
    with pytest.raises(DataError, match=r"a:0: truth.boxes: expected at least one box, found none"):
        PhraseGrounding()([answer(0, group=PEOPLE)])
