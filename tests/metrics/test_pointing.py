from __future__ import annotations

from typing import Any

import pytest

from mllm.errors import DataError
from mllm.metrics.pointing import PointingAccuracy
from mllm.types import Box, GroundTruth, Point, Prediction

RIGHT = Box(x1=0, y1=0, x2=10, y2=10)
AROUND = Box(x1=0, y1=0, x2=40, y2=40)
ELSEWHERE = Box(x1=50, y1=50, x2=60, y2=60)
OF_BOX = GroundTruth(boxes=(RIGHT,), candidates=(RIGHT, AROUND, ELSEWHERE))
OF_POINT = GroundTruth(points=(Point(x=5, y=5),), candidates=(RIGHT, AROUND, ELSEWHERE))


def answer(index: int, truth: GroundTruth = OF_BOX, **found: Any) -> Prediction:
    return Prediction(key=f"a:{index}", index=index, text="", truth=truth, **found)


def test_a_box_means_the_candidate_it_covers_best() -> None:
    scores = PointingAccuracy()(
        [
            answer(0, boxes=(Box(x1=1, y1=1, x2=12, y2=12),)),
            answer(1, boxes=(Box(x1=0, y1=0, x2=30, y2=30),)),
            answer(2, boxes=(Box(x1=80, y1=80, x2=90, y2=90),)),
            answer(3, boxes=(RIGHT, AROUND)),
            answer(4, failure="malformed"),
            answer(5),
        ]
    )
    assert scores == {
        "accuracy": 1 / 6,
        "count": 6,
        "clipped": 0,
        "failure_none": 1,
        "failure_malformed": 1,
        "failure_out_of_range": 0,
        "failure_wrong_count": 1,
        "failure_inverted": 0,
        "failure_no_candidate": 1,
        "chance": pytest.approx(1 / 3),
    }


def test_a_point_means_the_smallest_candidate_around_it() -> None:
    scores = PointingAccuracy()(
        [
            answer(0, OF_POINT, points=(Point(x=9, y=9),)),
            answer(1, OF_POINT, points=(Point(x=20, y=9),)),
            answer(2, OF_POINT, points=(Point(x=45, y=45),)),
            answer(3, OF_POINT, boxes=(RIGHT,)),
        ]
    )
    assert (scores["accuracy"], scores["failure_no_candidate"], scores["failure_none"]) == (0.25, 1, 1)


def test_errors() -> None:
    with pytest.raises(DataError, match="a:0: expected at least two candidates in the truth, found 0"):
        PointingAccuracy()([answer(0, GroundTruth(boxes=(RIGHT,)))])
