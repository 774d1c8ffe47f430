from __future__ import annotations

from typing import Any

import pytest

from mllm.errors import DataError
from mllm.metrics.pointing import PointingAccuracy, answered_region, nearest_candidate
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


def test_of_two_candidates_a_guess_is_right_half_of_the_time() -> None:
    truth = GroundTruth(boxes=(RIGHT,), candidates=(RIGHT, ELSEWHERE))
    scores = PointingAccuracy()([answer(0, truth, boxes=(RIGHT,)), answer(1, truth, boxes=(ELSEWHERE,))])
    assert (scores["accuracy"], scores["chance"], scores["failure_no_candidate"]) == (0.5, 0.5, 0)


def test_the_value_is_whether_the_right_candidate_is_meant() -> None:
    given = [answer(0, boxes=(RIGHT,)), answer(1, boxes=(AROUND,)), answer(2), answer(3, boxes=(RIGHT, RIGHT))]
    assert [PointingAccuracy().value(each) for each in given] == [1, 0, 0, 0]


def test_clipped_answers_are_counted() -> None:
    given = [answer(0, boxes=(RIGHT,), clipped=1), answer(1, boxes=(RIGHT,)), answer(2, boxes=(RIGHT,))]
    assert PointingAccuracy()(given)["clipped"] == 1


def test_a_point_may_mean_a_candidate_without_area() -> None:
    dot = Box(x1=5, y1=5, x2=5, y2=5)
    assert nearest_candidate(Point(x=5, y=5), (RIGHT, dot)) == 1


def test_candidates_of_another_image_are_not_meant() -> None:
    on_second = Box(x1=0, y1=0, x2=10, y2=10, image=1)
    assert nearest_candidate(on_second, (RIGHT, AROUND, on_second)) == 2
    assert nearest_candidate(Point(x=5, y=5, image=1), (RIGHT, AROUND, on_second)) == 2
    assert nearest_candidate(RIGHT, (on_second, AROUND)) == 1
    assert nearest_candidate(RIGHT, (on_second,)) is None


@pytest.mark.parametrize(
    ("smaller", "larger"),
    [
        ((100, 0, 120, 10), (105, 0, 115, 40)),  # 200 and 400 square pixels; the larger is the narrower
        ((100, 100, 120, 110), (0, 100, 200, 110)),  # the larger is nearer to the left edge
        ((100, 100, 120, 110), (100, 0, 120, 110)),  # the larger is nearer to the top
    ],
)
def test_a_point_means_the_candidate_of_the_smaller_area(smaller: tuple[int, ...], larger: tuple[int, ...]) -> None:
    boxes = [Box(x1=x1, y1=y1, x2=x2, y2=y2) for x1, y1, x2, y2 in (larger, smaller)]
    assert nearest_candidate(Point(x=110, y=105 if smaller[1] else 5), boxes) == 1


@pytest.mark.parametrize(
    ("boxes", "meant"), [((RIGHT,), RIGHT), ((), "none"), ((RIGHT, AROUND), "wrong_count"), ((ELSEWHERE,), ELSEWHERE)]
)
def test_a_truth_of_candidates_alone_asks_for_one_box(boxes: tuple[Box, ...], meant: Box | str) -> None:
    assert answered_region(answer(0, GroundTruth(candidates=(RIGHT, AROUND)), boxes=boxes)) == meant


def test_each_score_but_the_count_has_a_meaning() -> None:
    scores = PointingAccuracy()([answer(0)])
    assert set(scores) - {"count"} == set(PointingAccuracy.meanings)
    assert PointingAccuracy.headline in scores


def test_errors() -> None:
    with pytest.raises(DataError, match="a:0: expected at least two candidates in the truth, found 0"):
        PointingAccuracy()([answer(0, GroundTruth(boxes=(RIGHT,)))])
