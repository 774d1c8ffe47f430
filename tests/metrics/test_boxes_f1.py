from __future__ import annotations

import random

import numpy as np
import pytest

from mllm.errors import ConfigError, DataError
from mllm.metrics.boxes_f1 import BoxesF1, f1
from mllm.registry import METRICS
from mllm.types import GroundTruth, Prediction
from tests.metrics.official_boxes import answer, boxes, stored_answers

A, B, C = [0, 0, 10, 10], [20, 0, 30, 10], [0, 20, 10, 30]


def test_micro_counts_boxes_and_macro_counts_answers() -> None:
    scores = BoxesF1(thresholds=[0.5])(
        [
            answer(0, boxes(A, B, C), boxes(A, B)),  # 2 of 3, 2 of 2
            answer(1, boxes(A), boxes(C)),
            answer(2, (), boxes(A)),
            answer(3, (), ()),
            answer(4, boxes(A), ()),
        ]
    )
    assert scores == {
        "micro_f1@0.5": pytest.approx(2 * 2 / (5 + 4)),
        "micro_precision@0.5": pytest.approx(2 / 5),
        "micro_recall@0.5": pytest.approx(2 / 4),
        "macro_f1@0.5": pytest.approx((4 / 5 + 0 + 0 + 1 + 0) / 5),
        "macro_precision@0.5": pytest.approx((2 / 3 + 0 + 0 + 1 + 0) / 5),
        "macro_recall@0.5": pytest.approx((1 + 0 + 0 + 1 + 0) / 5),
        "count": 5,
        "boxes": 5,
        "true_boxes": 4,
        "unlabelled": 0,
        "clipped": 0,
        "failure_none": 1,
        "failure_malformed": 0,
        "failure_out_of_range": 0,
        "failure_inverted": 0,
    }


def test_a_tie_with_the_threshold_counts() -> None:
    half = boxes([0, 0, 10, 5])
    assert BoxesF1()([answer(0, half, boxes(A))])["micro_f1@0.5"] == 1
    assert BoxesF1()([answer(0, boxes([0, 0, 10, 4.99]), boxes(A))])["micro_f1@0.5"] == 0


def test_matching_is_the_best_one_not_the_greedy_one() -> None:
    """The first box is nearest to A, but is needed for B: greedy matching finds one pair."""
    true = boxes([0, 0, 10, 10], [4, 0, 14, 10])
    found = boxes([1.5, 0, 11.5, 10], [-3, 0, 7, 10])
    assert BoxesF1()([answer(0, found, true)])["micro_f1@0.5"] == 1


def test_one_true_box_is_found_once() -> None:
    assert BoxesF1()([answer(0, boxes(A, A, A), boxes(A))])["micro_precision@0.5"] == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("found", "true", "right"),
    [("dog", "dog", 1), ("  Big  DOG ", "big dog", 1), ("cat", "dog", 0), (None, "dog", 0), ("dog", None, 1)],
)
def test_labels_must_agree_where_the_truth_has_them(found: str | None, true: str | None, right: int) -> None:
    prediction = answer(0, boxes(A, label=found), boxes(A, label=true))
    assert BoxesF1()([prediction])["micro_f1@0.5"] == right
    assert BoxesF1()([prediction])["unlabelled"] == (found is None and true is not None)
    assert BoxesF1(labels=False)([prediction])["micro_f1@0.5"] == 1
    assert "unlabelled" not in BoxesF1(labels=False)([prediction])


def test_readable_boxes_count_beside_an_unreadable_one() -> None:
    scores = BoxesF1()([answer(0, boxes(A), boxes(A, B), failure="malformed")])
    assert (scores["micro_precision@0.5"], scores["micro_recall@0.5"], scores["failure_malformed"]) == (1, 0.5, 1)


def test_the_first_threshold_is_the_headlines() -> None:
    metric = BoxesF1(thresholds=[0.75, 0.5])
    assert metric.headline == "micro_f1@0.75"
    scores = metric([answer(0, boxes(A), boxes(A))])
    assert set(scores) - {"count"} == set(metric.meanings)


@pytest.mark.parametrize("thresholds", [[], [0], [1.5], 0.5])
def test_thresholds_are_checked(thresholds: object) -> None:
    with pytest.raises(ConfigError, match="thresholds"):
        METRICS.make({"type": "BoxesF1", "thresholds": thresholds})


def test_a_threshold_may_be_one() -> None:
    metric = METRICS.make({"type": "BoxesF1", "thresholds": [1, 0.01]})
    assert metric([answer(0, boxes(A), boxes(A))])["micro_f1@1"] == 1


def test_the_headline_follows_from_tallies() -> None:
    metric = BoxesF1(thresholds=[0.75, 0.5])
    given = [answer(0, boxes(A, [0, 0, 10, 6]), boxes(A, C)), answer(1, boxes([0, 0, 10, 6]), boxes(A)), answer(2)]
    assert [metric.value(each) for each in given] == [0.5, 0, 1]
    assert [metric.tally(each) for each in given] == [(2, 4), (0, 2), (0, 0)]
    assert metric.headline_of(np.array([[2.0, 6.0], [0.0, 0.0]])).tolist() == [pytest.approx(1 / 3), 1]
    assert metric(given)[metric.headline] == pytest.approx(1 / 3)


def test_the_headline_is_by_default_that_at_a_half() -> None:
    assert BoxesF1().headline == "micro_f1@0.5"
    assert BoxesF1()([answer(0)])["micro_f1@0.75"] == 1


def test_clipped_answers_are_counted() -> None:
    assert BoxesF1()([answer(0, boxes(A), boxes(A), clipped=1), answer(1, boxes(A), boxes(A))])["clipped"] == 1


def test_the_order_of_answers_and_boxes_does_not_matter() -> None:
    answers = stored_answers("domain")
    expected = BoxesF1()(answers)
    draw = random.Random(0)
    assert BoxesF1()(draw.sample(answers, len(answers))) == expected
    mixed = [
        answer(one.index, draw.sample(one.boxes, len(one.boxes)), draw.sample(one.truth.boxes, len(one.truth.boxes)))
        for one in answers
    ]
    assert BoxesF1()(mixed) == pytest.approx(expected)


def test_f1_is_the_harmonic_mean() -> None:
    score, precision, recall = f1(3, 5, 4)
    assert (precision, recall) == (3 / 5, 3 / 4)
    assert score == pytest.approx(2 * precision * recall / (precision + recall))


def test_a_truth_without_boxes_is_an_error() -> None:
    with pytest.raises(DataError, match=r"a: truth\.boxes: expected boxes, or an empty list where there is nothing"):
        BoxesF1()([Prediction(key="a", index=0, text="", truth=GroundTruth(texts=("dog",)))])
