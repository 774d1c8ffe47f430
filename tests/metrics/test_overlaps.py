from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mllm.geometry import iou
from mllm.metrics.overlaps import best_pairs, enclosing, overlaps
from mllm.types import Box
from tests.metrics.official_boxes import ITEMS, boxes


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


def test_boxes_without_area_and_on_other_images_do_not_overlap() -> None:
    dot, a = boxes([5, 5, 5, 5], [0, 0, 10, 10])
    assert overlaps([dot], [dot, a])[0].tolist() == [0, 0]
    other = Box(x1=0, y1=0, x2=10, y2=10, image=1)
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


def test_enclosing_is_around_all() -> None:
    assert enclosing(boxes([5, 1, 9, 3], [2, 2, 6, 8])).xyxy == (2, 1, 9, 8)
