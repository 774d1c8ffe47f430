from __future__ import annotations

from typing import Literal

import pytest

from mllm.metrics.grec import GREC
from mllm.registry import METRICS
from mllm.types import Failure, Point
from tests.metrics.official_boxes import SCORES, answer, boxes, stored_answers

A, B = [0, 0, 10, 10], [20, 0, 30, 10]


@pytest.mark.parametrize("overlap", ["iou", "giou"])
def test_scores_equal_the_public_code(overlap: Literal["iou", "giou"]) -> None:
    scores, official = GREC(overlap=overlap)(stored_answers("domain")), SCORES[f"grec_{overlap}"]
    found = {"F1_score": scores["pr@f1=1"], "N_acc": scores["n_acc"], "T_acc": scores["t_acc"]}
    assert found == pytest.approx(official, abs=1e-6)


def test_the_stored_case_tells_iou_and_giou_apart() -> None:
    assert SCORES["grec_iou"]["F1_score"] > SCORES["grec_giou"]["F1_score"]


def test_all_boxes_and_no_other() -> None:
    given = [
        answer(0, boxes(B, A), boxes(A, B)),
        answer(1, boxes(A), boxes(A, B)),
        answer(2, boxes(A, B, B), boxes(A, B)),
        answer(3, boxes(A, A), boxes(A, B)),
        answer(4, (), boxes(A)),
        answer(5, (), ()),
        answer(6, boxes(A), ()),
    ]
    scores = GREC()(given)
    assert scores["pr@f1=1"] == pytest.approx(2 / 7)
    assert (scores["n_acc"], scores["t_acc"]) == (1 / 2, 4 / 5)
    assert (scores["no_target_count"], scores["target_count"], scores["failure_none"]) == (2, 5, 1)
    assert set(scores) - {"count"} == set(GREC().meanings)


@pytest.mark.parametrize(("failure", "right"), [(None, 1), ("none", 1), ("malformed", 0), ("out_of_range", 0)])
def test_nothing_is_said_by_an_answer_that_was_read(failure: Failure | None, right: int) -> None:
    assert GREC()([answer(0, failure=failure)])["n_acc"] == right


def test_a_point_is_a_region_too() -> None:
    assert GREC()([answer(0, points=(Point(x=1, y=1),))])["n_acc"] == 0


def test_an_overlap_of_just_a_half_counts() -> None:
    assert GREC()([answer(0, boxes([0, 0, 10, 5]), boxes(A))])["pr@f1=1"] == 1
    assert GREC()([answer(0, boxes([0, 0, 10, 4.9]), boxes(A))])["pr@f1=1"] == 0


def test_clipped_answers_are_counted() -> None:
    given = [answer(0, boxes(A), boxes(A), clipped=1), answer(1, boxes(A), boxes(A))]
    assert GREC()(given)["clipped"] == 1


def test_the_headline_has_a_meaning_that_names_the_overlap() -> None:
    for metric, name in ((GREC(), " (IoU >= 0.5)"), (GREC(overlap="giou"), " (generalised IoU >= 0.5)")):
        assert metric.meanings[metric.headline].endswith(name)


@pytest.mark.parametrize("overlap", ["iou", "giou"])
def test_each_overlap_has_a_name_in_configs(overlap: str) -> None:
    assert METRICS.make({"type": "GREC", "overlap": overlap}).value(answer(0, boxes(A), boxes(A))) == 1


def test_what_there_is_none_of_has_no_score() -> None:
    assert "t_acc" not in GREC()([answer(0)])
    assert "n_acc" not in GREC()([answer(0, boxes(A), boxes(A))])
