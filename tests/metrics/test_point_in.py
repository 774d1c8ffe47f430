from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from pycocotools import mask

from mllm.errors import DataError
from mllm.metrics.point_in import RULES, PointIn
from mllm.registry import METRICS
from mllm.types import Box, GroundTruth, Mask, Point, Prediction
from tests.metrics.official_boxes import boxes

A, B = boxes([10, 10, 20, 20], [40, 40, 60, 60])


def points(*values: tuple[float, float], image: int = 0) -> tuple[Point, ...]:
    return tuple(Point(x=x, y=y, image=image) for x, y in values)


def answer(index: int, found: tuple[Point, ...] = (), truth: GroundTruth | None = None, **given: Any) -> Prediction:
    truth = truth or GroundTruth(points=points((15, 15)), candidates=(A,))
    return Prediction(key=f"a:{index}", index=index, text="", points=found, truth=truth, **given)


def rle(pixels: np.ndarray, *, compressed: bool) -> Mask:
    """Pixels [height, width] in COCO's run-length encoding."""
    if compressed:
        packed = mask.encode(np.asfortranarray(pixels.astype(np.uint8)))
        return {"size": packed["size"], "counts": packed["counts"].decode()}
    flat = pixels.astype(np.uint8).flatten(order="F")
    ends = np.flatnonzero(np.diff(flat)) + 1
    runs = np.diff([0, *ends, len(flat)]).tolist()
    return {"size": list(pixels.shape), "counts": [0, *runs] if flat[0] else runs}


@pytest.mark.parametrize(
    ("point", "right"), [((15, 15), 1), ((10, 20), 1), ((20, 10), 1), ((20.01, 15), 0), ((15, 9.99), 0), ((-15, 15), 0)]
)
def test_a_box_holds_the_points_within_its_edges_and_on_them(point: tuple[float, float], right: int) -> None:
    assert PointIn()([answer(0, points(point))])["accuracy"] == right
    of_box = GroundTruth(boxes=(A,))
    assert PointIn()([answer(0, points(point), of_box)])["accuracy"] == right


@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize(
    ("point", "right"),
    [
        ((2, 1), 1),
        ((2.99, 1.99), 1),
        ((3, 1), 0),
        ((1.99, 1), 0),
        ((2, 0.99), 0),
        ((5, 3), 1),  # the lower right corner of the image
        ((4.5, 2.5), 1),
        ((5.01, 3), 0),
        ((-0.1, 1), 0),
    ],
)
def test_a_mask_holds_the_squares_of_its_pixels(compressed: bool, point: tuple[float, float], right: int) -> None:
    pixels = np.zeros((3, 5), bool)  # 5 wide
    pixels[1, 2] = pixels[2, 4] = True
    truth = GroundTruth(points=points((2.5, 1.5)), masks=(rle(pixels, compressed=compressed),))
    assert PointIn()([answer(0, points(point), truth)])["accuracy"] == right


def test_first_looks_at_the_first_point_and_all_at_all() -> None:
    both = GroundTruth(points=points((15, 15), (50, 50)), candidates=(A, B))
    given = [
        answer(0, points((15, 15), (50, 50)), both),
        answer(1, points((50, 50)), both),
        answer(2, points((15, 15), (0, 0)), both),
        answer(3, points((0, 0), (15, 15)), both),
        answer(4, (), both),
    ]
    assert PointIn(rule="first")(given)["accuracy"] == 3 / 5
    scores = PointIn(rule="all")(given)
    assert (scores["accuracy"], scores["failure_none"], scores["count"]) == (2 / 5, 1, 5)


def test_counted_groups_need_as_many_points_as_there_are() -> None:
    both = GroundTruth(points=points((15, 15), (50, 50)), candidates=(A, B))
    metric = PointIn(rule="all", group="category", counted=["counting"])
    given = [
        answer(0, points((50, 50)), both, group={"category": "counting"}),
        answer(1, points((50, 50), (11, 11)), both, group={"category": "counting"}),
        answer(2, points((50, 50)), both, group={"category": "spatial"}),
    ]
    scores = metric(given)
    assert (scores["accuracy/counting"], scores["accuracy/spatial"]) == (1 / 2, 1)
    assert (scores["accuracy"], scores["mean_accuracy"]) == (pytest.approx(2 / 3), 3 / 4)


def test_counted_groups_need_as_many_points_as_there_are_regions_where_no_points_are_known() -> None:
    metric = PointIn(rule="all", group="category", counted=["counting"])
    both = GroundTruth(boxes=(A, B))
    given = [answer(n, points(*[(50, 50)] * n), both, group={"category": "counting"}) for n in (1, 2, 3)]
    assert [metric.value(each) for each in given] == [0, 1, 0]
    assert metric.parts_of(given[0]) == {"category": ["counting"]}
    assert PointIn().parts_of(given[0]) == {}


def test_several_masks_are_those_of_the_image_of_each_point_or_of_the_only_one() -> None:
    left, right = np.zeros((2, 4), bool), np.zeros((2, 4), bool)
    left[:, :2] = right[:, 2:] = True
    masks = (rle(left, compressed=False), rle(right, compressed=True))
    of_each = GroundTruth(points=(*points((1, 1)), *points((3, 1), image=1)), masks=masks)
    for found, image, value in (((1, 1), 0, 1), ((3, 1), 0, 0), ((3, 1), 1, 1), ((1, 1), 1, 0)):
        assert PointIn().value(answer(0, points(found, image=image), of_each)) == value
    of_one = GroundTruth(points=points((1, 1), image=1), masks=masks)
    assert [PointIn().value(answer(0, points((3, 1), image=image), of_one)) for image in (0, 1)] == [0, 1]
    bare = GroundTruth(masks=masks)
    assert [PointIn().value(answer(0, points((3, 1), image=image), bare)) for image in (0, 1)] == [1, 0]


def test_a_mask_reaches_to_the_edges_of_the_image() -> None:
    truth = GroundTruth(masks=(rle(np.ones((3, 5), bool), compressed=False),))
    inside = [(0, 0), (5, 3), (0, 3), (5, 0)]
    assert [PointIn().value(answer(0, points(each), truth)) for each in inside] == [1] * 4


def test_the_failures_are_those_of_what_was_read() -> None:
    metric = PointIn()
    assert metric.failure(answer(0, failure="malformed")) == "malformed"
    assert metric.failure(answer(0, points((1, 1)), failure="inverted")) == "inverted"
    assert metric.failure(answer(0)) == "none"
    assert metric.failure(answer(0, points((1, 1)))) is None
    assert metric.failure(answer(0, (), GroundTruth(no_target=True))) is None
    scores = metric([answer(0, points((15, 15))), answer(1, (), GroundTruth(no_target=True))])
    assert (scores["no_target_acc"], scores["no_target_count"]) == (1, 1)


@pytest.mark.parametrize("rule", RULES)
def test_each_rule_has_a_name_in_configs(rule: str) -> None:
    assert METRICS.make({"type": "PointIn", "rule": rule}).value(answer(0, points((15, 15)))) == 1


def test_a_box_stands_for_its_centre() -> None:
    given = [answer(0, boxes=boxes([5, 8, 25, 12])), answer(1, boxes=boxes([8, 5, 12, 25]))]
    off = [answer(0, boxes=boxes([5, 0, 25, 12])), answer(1, boxes=boxes([0, 5, 12, 25]))]
    assert [PointIn().value(each) for each in (*given, *off)] == [1, 1, 0, 0]


def test_match_pairs_points_by_their_distance() -> None:
    both = GroundTruth(points=points((15, 15), (50, 50)), candidates=(A, B))
    given = [
        answer(0, points((50, 50), (15, 15)), both),
        answer(1, points((15, 15)), both),
        answer(2, points((15, 15), (50, 50), (51, 51)), both),
        answer(3, points((15, 15), (14, 14)), both),  # the second is matched to the other object, and misses it
        answer(4, (), both),
    ]
    scores = PointIn(rule="match")(given)
    assert scores["precision"] == pytest.approx((1 + 1 + 2 / 3 + 1 / 2 + 0) / 5)
    assert scores["recall"] == pytest.approx((1 + 1 / 2 + 1 + 1 / 2 + 0) / 5)
    assert scores["f1"] == pytest.approx((1 + 2 / 3 + 4 / 5 + 1 / 2 + 0) / 5)
    assert scores["accuracy"] == 1 / 5
    assert PointIn(rule="match").headline == "f1"


def test_boxes_stand_for_their_centres_unless_told_otherwise() -> None:
    given = [answer(0, boxes=boxes([0, 0, 30, 30])), answer(1, points((15, 15)), boxes=boxes([0, 0, 1, 1]))]
    scores = PointIn()(given)
    assert (scores["accuracy"], scores["box_centres"], scores["failure_none"]) == (1, 1, 0)
    scores = PointIn(box_centre=False)(given)
    assert (scores["accuracy"], scores["box_centres"], scores["failure_none"]) == (1 / 2, 0, 1)


def test_where_nothing_is_an_answer_without_a_region_is_right() -> None:
    nothing = GroundTruth(no_target=True)
    given = [answer(0, (), nothing), answer(1, points((1, 1)), nothing), answer(2, (), nothing, failure="malformed")]
    for rule in ("first", "all", "match"):
        scores = PointIn(rule=rule)(given)
        assert scores[PointIn(rule=rule).headline] == scores["no_target_acc"] == pytest.approx(1 / 3)
        assert (scores["no_target_count"], scores["failure_malformed"]) == (3, 1)


def test_a_point_on_another_image_is_outside() -> None:
    assert PointIn()([answer(0, points((15, 15), image=1))])["accuracy"] == 0
    second = GroundTruth(boxes=(Box(x1=10, y1=10, x2=20, y2=20, image=1),))
    assert PointIn()([answer(0, points((15, 15), image=1), second)])["accuracy"] == 1


def test_points_are_matched_on_their_own_image() -> None:
    """Both points lie where a point of the other image does: matched by distance alone, none would be right."""
    there, elsewhere = boxes([0, 0, 9, 9], [50, 50, 59, 59])
    regions = (there, replace(elsewhere, image=1))
    truth = GroundTruth(points=(*points((5, 5)), *points((55, 55), image=1)), candidates=regions)
    found = (*points((55, 55)), *points((5, 5), image=1))
    assert PointIn(rule="match")([answer(0, found, truth)])["f1"] == 0
    right = (*points((55, 55), image=1), *points((5, 5)))
    assert PointIn(rule="match")([answer(0, right, truth)])["f1"] == 1
    swapped = GroundTruth(
        points=(*points((5, 5)), *points((5, 6), image=1)), candidates=(regions[0], replace(regions[0], image=1))
    )
    assert PointIn(rule="match")([answer(0, (*points((5, 6)), *points((5, 5), image=1)), swapped)])["f1"] == 1


def test_every_score_has_a_meaning() -> None:
    given = [answer(0, points((15, 15)), group={"g": 1}), answer(1, (), GroundTruth(no_target=True), group={"g": 1})]
    for rule in ("first", "match"):
        metric = PointIn(rule=rule, group="g")
        assert set(metric(given)) - {"count", f"{metric.headline}/1"} == set(metric.meanings)


def test_errors() -> None:
    with pytest.raises(DataError, match=r"a:0: truth: expected masks, candidates or boxes, .* found none of them"):
        PointIn()([answer(0, points((1, 1)), GroundTruth(points=points((1, 1))))])
    with pytest.raises(DataError, match=r"a:0: truth: expected a region for each of the 2 points, found 1"):
        PointIn(rule="match")([answer(0, points((1, 1)), GroundTruth(points=points((1, 1), (2, 2)), candidates=(A,)))])
    for counts in ([1, 2], [99], "zzzz"):
        broken = GroundTruth(points=points((1, 1)), masks=({"size": [3, 5], "counts": counts},))
        with pytest.raises(DataError, match=r"a:0: truth.masks: expected runs of 3 x 5 pixels"):
            PointIn()([answer(0, points((1, 1)), broken)])
