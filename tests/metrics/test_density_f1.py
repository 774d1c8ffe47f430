from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mllm.errors import DataError
from mllm.metrics.density_f1 import DensityF1, count_matches
from tests.metrics.official_boxes import SCORES, answer, boxes, stored_answers

A, B = [0, 0, 10, 10], [20, 0, 30, 10]
NAMES = {
    "recall_50": "recall@0.5",
    "recall_mean": "recall",
    "precision_50": "precision@0.5",
    "precision_mean": "precision",
    "density_f1_50": "density_f1@0.5",
    "density_f1_mean": "density_f1",
}


def test_scores_equal_the_public_code() -> None:
    scores = DensityF1()(stored_answers("domain"))
    official = dict(SCORES["humanref"])
    assert scores["rejection_correct"] == official.pop("rejection")
    for key, row in official.items():
        kind, _, name = key.partition(":")
        end = {"subdomain": "", "domain": f"/{name}", "box_count": f"/boxes={name}"}[kind]
        found = {theirs: scores[f"{ours}{end}"] for theirs, ours in NAMES.items()}
        assert found == pytest.approx({theirs: row[theirs] for theirs in NAMES}, abs=1e-6)
        if end:
            assert scores[f"count{end}"] == row["count"]


def test_boxes_too_many_cost_twice() -> None:
    scores = DensityF1(group=None)([answer(0, boxes(A, B), boxes(A))])
    assert (scores["recall@0.5"], scores["precision@0.5"]) == (1, 0.5)
    assert scores["density_f1@0.5"] == pytest.approx(2 / 3 * 1 / 2)


def test_items_without_a_target_count_apart() -> None:
    given = [answer(0, boxes(A), boxes(A)), answer(1), answer(2, boxes(A)), answer(3, failure="malformed")]
    scores = DensityF1(group=None)(given)
    assert scores["density_f1"] == 1
    assert scores["rejection_acc"] == pytest.approx(1 / 3)
    assert (scores["rejection_correct"], scores["rejection_count"], scores["count"]) == (1, 3, 4)
    assert set(DensityF1.meanings) <= set(scores)


def test_the_headline_is_missing_where_no_item_has_a_target() -> None:
    scores = DensityF1(group=None)([answer(0)])
    assert "density_f1" not in scores
    assert scores["rejection_acc"] == 1


def test_an_answer_counts_in_its_domain_and_by_how_many_boxes_are_meant() -> None:
    names = {1: "1", 2: "2-5", 5: "2-5", 6: "6-10", 10: "6-10", 11: ">10"}
    for count, name in names.items():
        many = replace(answer(0, true=boxes(*[A] * count)), group={"domain": "face"})
        assert DensityF1().parts_of(many) == {"boxes": [name], "domain": ["face"]}
        assert DensityF1(group=None).parts_of(many) == {"boxes": [name]}
    assert DensityF1(group=None).parts_of(answer(0)) == {"boxes": []}


def test_the_headline_is_the_mean_over_items_with_a_target() -> None:
    metric = DensityF1(group=None)
    given = [answer(0, boxes(A, B), boxes(A)), answer(1), answer(2, boxes(A))]
    assert [metric.value(each) for each in given] == [pytest.approx(1 / 3), 1, 0]
    assert [metric.tally(each) for each in given] == [(pytest.approx(1 / 3), 1), (0, 0), (0, 0)]
    assert metric.headline_of(np.array([[1.0, 2.0], [0.0, 0.0]])).tolist() == [0.5, 0]


def test_an_overlap_of_just_the_threshold_counts() -> None:
    assert count_matches(np.array([[0.5]]), 0.5) == 1
    assert count_matches(np.array([[0.5, 0.9], [0.6, 0.8], [0.7, 0.7]]), 0.5) == 2


def test_clipped_answers_are_counted() -> None:
    clipped = replace(answer(0, boxes(A), boxes(A)), clipped=1)
    assert DensityF1(group=None)([clipped, answer(1, boxes(A), boxes(A))])["clipped"] == 1


def test_errors() -> None:
    with pytest.raises(DataError, match=r"a:0: group: expected a value for 'domain'"):
        DensityF1()([answer(0, boxes(A), boxes(A))])
