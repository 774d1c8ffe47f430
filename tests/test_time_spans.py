from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mllm.errors import DataError
from mllm.time_spans import TimeSpan, temporal_iou


def spans(*values: tuple[float, float]) -> list[TimeSpan]:
    return [TimeSpan(start=start, end=end) for start, end in values]


@pytest.mark.parametrize(
    ("found", "true", "expected"),
    [
        ([(0, 10)], [(0, 10)], 1),
        ([(0, 10)], [(5, 15)], 1 / 3),
        ([(0, 10)], [(10, 20)], 0),
        ([(0, 5), (5, 10)], [(0, 10)], 1),  # together they are the same stretch
        ([(0, 6), (2, 10), (3, 4)], [(0, 10)], 1),  # what two cover counts once
        ([(0, 2)], [(0, 2), (8, 10)], 0.5),
        ([], [(0, 2)], 0),
        ([(3, 3)], [(3, 3)], 0),
    ],
)
def test_temporal_iou_is_that_of_the_covered_stretches(
    found: list[tuple[float, float]], true: list[tuple[float, float]], expected: float
) -> None:
    assert temporal_iou(spans(*found), spans(*true)) == pytest.approx(expected)
    assert temporal_iou(spans(*true), spans(*found)) == pytest.approx(expected)


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), max_size=4), st.integers(0, 30), st.integers(1, 9))
def test_temporal_iou_counts_seconds(pairs: list[tuple[int, int]], start: int, length: int) -> None:
    """Against a count of whole seconds."""
    found = [(min(pair), max(pair)) for pair in pairs]
    true = (start, start + length)
    seconds = {second for low, high in found for second in range(low, high)}
    asked = set(range(*true))
    assert temporal_iou(spans(*found), spans(true)) == pytest.approx(len(seconds & asked) / len(seconds | asked))


@pytest.mark.parametrize("values", [(5, 4), (-1, 4), (0, math.inf), (math.nan, 4)])
def test_a_span_has_a_beginning_and_an_end(values: tuple[float, float]) -> None:
    with pytest.raises(DataError, match="expected"):
        spans(values)
