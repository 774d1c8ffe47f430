from __future__ import annotations

from typing import Any

import pytest

from mllm.errors import DataError
from mllm.metrics.failures import failure_of
from mllm.metrics.statistics import interval
from mllm.metrics.temporal_iou import TemporalIoU
from mllm.types import Box, GroundTruth, Point, Prediction, TimeSpan


def spans(*values: tuple[float, float]) -> tuple[TimeSpan, ...]:
    return tuple(TimeSpan(start=start, end=end) for start, end in values)


TEN = spans((0, 10))


def answer(index: int, found: tuple[TimeSpan, ...], true: tuple[TimeSpan, ...] = TEN, **given: Any) -> Prediction:
    truth = GroundTruth(time_spans=true, no_target=not true)
    return Prediction(key=f"a:{index}", index=index, text="x", time_spans=found, truth=truth, **given)


def test_recall_counts_ious_at_the_threshold() -> None:
    """0.3, 0.5 and 0.7 exactly: at least the threshold is right, as in the public code."""
    answers = [
        *(answer(number, spans((0, length))) for number, length in enumerate((3, 5, 7, 10))),
        answer(4, ()),
    ]
    scores = TemporalIoU()(answers)
    assert [scores[f"R1@{least}"] for least in (0.3, 0.5, 0.7)] == [0.8, 0.6, 0.4]
    assert scores["mean_tiou"] == pytest.approx((0.3 + 0.5 + 0.7 + 1) / 5)
    assert (scores["count"], scores["failure_none"]) == (5, 1)
    assert interval(TemporalIoU(), answers, list("abcde")) is not None


def test_several_spans_are_one_stretch() -> None:
    scores = TemporalIoU()([answer(0, spans((0, 5), (5, 10))), answer(1, spans((0, 2)), spans((0, 2), (8, 10)))])
    assert scores["mean_tiou"] == pytest.approx(0.75)
    assert scores["several"] == 1
    assert failure_of(answer(0, spans((0, 5), (5, 10)))) is None


def test_failures_are_those_of_the_time_spans() -> None:
    """A box that cannot be read is none of a question for a moment."""
    failed = [
        answer(0, (), time_failure="malformed"),
        answer(1, (), time_failure="inverted", failure="out_of_range"),
        answer(2, spans((0, 10)), failure="malformed"),
    ]
    scores = TemporalIoU()(failed)
    assert (scores["failure_malformed"], scores["failure_inverted"], scores["failure_out_of_range"]) == (1, 1, 0)
    assert scores["R1@0.7"] == pytest.approx(1 / 3)


def test_where_there_is_no_such_moment_an_answer_without_a_span_is_right() -> None:
    answers = [
        answer(0, (), ()),
        answer(1, spans((0, 1)), ()),
        answer(2, (), (), boxes=(Box(x1=0, y1=0, x2=1, y2=1),)),
        answer(3, (), (), points=(Point(x=0, y=0),)),
    ]
    scores = TemporalIoU()(answers)
    assert (scores["no_target_acc"], scores["no_target_count"], scores["mean_tiou"]) == (0.25, 4, 0.25)


def test_every_score_has_a_meaning() -> None:
    scores = TemporalIoU()([answer(0, ()), answer(1, (), ())])
    assert set(scores) - {"count"} == set(TemporalIoU.meanings)
    assert TemporalIoU.headline in scores


def test_the_value_is_whether_half_is_reached() -> None:
    assert [TemporalIoU().value(answer(0, spans((0, end)))) for end in (4.9, 5, 10)] == [0, 1, 1]


def test_items_with_and_without_such_a_moment_are_scored_together() -> None:
    scores = TemporalIoU()([answer(0, spans((0, 5))), answer(1, (), ()), answer(2, spans((0, 5)), ())])
    assert (scores["no_target_acc"], scores["no_target_count"], scores["mean_tiou"]) == (0.5, 2, 0.5)


def test_a_truth_must_speak_of_time() -> None:
    with pytest.raises(DataError, match=r"a: truth.spans: expected time spans, or an empty list where there is no"):
        TemporalIoU()([Prediction(key="a", index=0, text="")])
