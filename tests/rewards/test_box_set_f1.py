from __future__ import annotations

import pytest

from mllm.rewards.box_set_f1 import BoxSetF1
from mllm.types import GroundTruth, Prediction
from tests.rewards.answers import answered, box, said, truth

TWO = truth(box(0, 0, 100, 100), box(200, 200, 300, 300))


def found(given: GroundTruth, *boxes: tuple[float, ...], failure: str | None = None) -> Prediction:
    read = tuple(box(*each) for each in boxes)
    return Prediction(key="k", index=0, text="...", boxes=read, truth=given, failure=failure)  # type: ignore[arg-type]


def test_all_boxes_in_any_order_get_1() -> None:
    assert BoxSetF1()(found(TWO, (200, 200, 300, 300), (0, 0, 100, 100))) == 1.0


def test_ten_copies_of_one_box_are_nine_wrong_ones() -> None:
    """Matched without an assignment they would keep full precision."""
    assert BoxSetF1()(found(TWO, *[(0, 0, 100, 100)] * 10)) == pytest.approx(2 / 12)


def test_pairs_are_assigned_for_the_best_sum_and_not_one_after_the_other() -> None:
    """Greedy takes the pair of 0.8, and leaves one of 0.25; together the others are worth more."""
    true = truth(box(0, 0, 10, 10), box(0, 0, 10, 8))
    answer = found(true, (0, 0, 10, 9), (0, 0, 10, 10))
    assert BoxSetF1()(answer) == pytest.approx((1 + 8 / 9) / 2)


def test_soft_counts_the_iou_of_a_pair_above_the_threshold() -> None:
    answer = found(TWO, (0, 0, 100, 60), (200, 200, 300, 240))  # IoU 0.6 and 0.4
    assert BoxSetF1()(answer) == pytest.approx(0.3)
    assert BoxSetF1(soft=False)(answer) == pytest.approx(0.5)
    assert BoxSetF1(threshold=0.3)(answer) == pytest.approx(0.5)
    assert BoxSetF1(threshold=0.3, soft=False)(answer) == 1.0


def test_an_unreadable_region_is_one_more_wrong_box() -> None:
    whole = found(TWO, (0, 0, 100, 100), (200, 200, 300, 300), failure="inverted")
    assert BoxSetF1()(whole) == pytest.approx(4 / 5)
    assert BoxSetF1()(answered('{"bbox_2d": [100, 100, 0, 0]}', TWO)) == 0.0


def test_labels_must_agree_where_the_truth_has_them() -> None:
    named = truth(box(0, 0, 100, 100, label="dog"))
    assert BoxSetF1()(found(named, (0, 0, 100, 100))) == 0.0
    assert BoxSetF1(labels=False)(found(named, (0, 0, 100, 100))) == 1.0


def test_an_empty_truth_is_allowed() -> None:
    nothing = GroundTruth(no_target=True)
    assert BoxSetF1()(answered("[]", nothing)) == 1.0
    assert BoxSetF1()(answered("[1, 2, 30, 40]", nothing)) == 0.0
    assert BoxSetF1()(answered('{"bbox_2d": [30, 40, 1, 2]}', nothing)) == 0.0
    assert BoxSetF1()(found(TWO)) == 0.0
    assert BoxSetF1()(said("a dog", "a dog")) is None
