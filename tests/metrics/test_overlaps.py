from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mllm.errors import DataError
from mllm.geometry import iou
from mllm.metrics.overlaps import COCO_THRESHOLDS, assigned, best_pairs, enclosing, overlaps, true_boxes
from mllm.types import Box, Prediction
from tests.metrics.official_boxes import ITEMS, answer, boxes


def test_overlaps_are_the_iou_of_each_pair() -> None:
    for item in ITEMS[:30]:
        found, true = boxes(*item["found"]), boxes(*item["true"])
        values = overlaps(found, true)
        assert values.shape == (len(found), len(true))
        for row, column in itertools.product(range(len(found)), range(len(true))):
            assert values[row, column] == pytest.approx(iou(found[row], true[column]))


def test_giou_by_hand() -> None:
    a, b, far = boxes([0, 0, 10, 10], [0, 0, 10, 5], [20, 0, 30, 10])
    assert overlaps([a], [a, b, far], "giou")[0] == pytest.approx([1, 0.5, -1 / 3])
    across = boxes([5, 5, 15, 15])
    assert overlaps([a], across, "giou")[0, 0] == pytest.approx(25 / 175 - 50 / 225)
    wide = boxes([0, 20, 30, 30])
    assert overlaps([a], wide, "giou") == overlaps(wide, [a], "giou") == pytest.approx(-500 / 900)


def test_boxes_below_a_pixel_overlap_too() -> None:
    small = boxes([0, 0, 0.5, 0.5], [0, 0, 0.5, 0.25])
    assert overlaps(small, small).tolist() == [[1, 0.5], [0.5, 1]]


def test_boxes_without_area_and_on_other_images_do_not_overlap() -> None:
    dot, a = boxes([5, 5, 5, 5], [0, 0, 10, 10])
    assert overlaps([dot], [dot, a])[0].tolist() == [0, 0]
    other = Box(x1=0, y1=0, x2=10, y2=10, image=1)
    assert overlaps([], [a]).shape == (0, 1)
    assert overlaps([other], [a])[0, 0] == overlaps([other], [a], "giou")[0, 0] == -1


@given(arrays(np.float64, st.tuples(st.integers(0, 4), st.integers(0, 4)), elements=st.floats(-1, 1)))
def test_best_pairs_is_the_greatest_number_of_any_matching(values: np.ndarray) -> None:
    rows, columns = values.shape
    tall = values if rows >= columns else values.T
    best = max(
        sum(tall[row, column] >= 0.5 for column, row in enumerate(chosen))
        for chosen in itertools.permutations(range(max(rows, columns)), min(rows, columns))
    )
    assert best_pairs(values, 0.5) == best


def test_best_pairs_takes_a_value_of_just_the_threshold() -> None:
    assert best_pairs(np.array([[0.5, 0.4]]), 0.5) == 1


def test_enclosing_is_around_all() -> None:
    assert enclosing(boxes([5, 1, 9, 3], [2, 2, 6, 8])).xyxy == (2, 1, 9, 8)
    elsewhere = Box(x1=0, y1=0, x2=99, y2=99, image=1)
    assert enclosing([*boxes([5, 1, 9, 3]), elsewhere]).xyxy == (5, 1, 9, 3)
    assert enclosing([elsewhere, *boxes([5, 1, 9, 3])]) == elsewhere


def test_assigned_has_the_least_sum_or_the_greatest() -> None:
    values = np.array([[1.0, 5.0, 9.0], [2.0, 4.0, 9.0]])
    assert assigned(values) == [(0, 0), (1, 1)]
    assert assigned(values, maximize=True) == [(0, 1), (1, 2)]


def test_true_boxes_are_none_where_nothing_is() -> None:
    given = boxes([0, 0, 1, 1])
    assert true_boxes(answer(0, true=given)) == given
    assert true_boxes(answer(0)) == ()
    with pytest.raises(DataError, match=r"a: truth\.boxes: expected boxes, or an empty list .*, found nothing"):
        true_boxes(Prediction(key="a", index=0, text=""))


def test_the_thresholds_are_those_of_coco() -> None:
    assert COCO_THRESHOLDS == (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)
