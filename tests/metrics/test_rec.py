from __future__ import annotations

import math
import random
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mllm.errors import DataError
from mllm.geometry import iou
from mllm.metrics.failures import FAILURES, failure_of
from mllm.metrics.rec import REC, constant_box_accuracy, iou_of, is_on_another
from mllm.registry import METRICS
from mllm.types import Box, Failure, GroundTruth, Point, Prediction

TRUTH = Box(x1=0, y1=0, x2=100, y2=10)


def answer(index: int, *boxes: Box, failure: Failure | None = None, truth: Box = TRUTH) -> Prediction:
    return Prediction(
        key=f"a:{index}", index=index, text="", boxes=boxes, failure=failure, truth=GroundTruth(boxes=(truth,))
    )


def strip(width: float) -> Box:
    """IoU with TRUTH is width / 100."""
    return Box(x1=0, y1=0, x2=width, y2=10)


def test_by_hand() -> None:
    scores = REC()([answer(0, strip(100)), answer(1, strip(60)), answer(2, strip(30)), answer(3, strip(10))])
    assert scores == {
        "acc@0.25": 3 / 4,
        "acc@0.5": 2 / 4,
        "acc@0.75": 1 / 4,
        "mean_iou": pytest.approx(0.5),
        "count": 4,
        "clipped": 0,
        "failure_none": 0,
        "failure_malformed": 0,
        "failure_out_of_range": 0,
        "failure_wrong_count": 0,
        "failure_inverted": 0,
    }


@pytest.mark.parametrize("threshold", [0.25, 0.5, 0.75])
def test_a_tie_is_wrong(threshold: float) -> None:
    assert REC()([answer(0, strip(100 * threshold))])[f"acc@{threshold}"] == 0
    assert REC()([answer(0, strip(100 * threshold + 0.01))])[f"acc@{threshold}"] == 1


@pytest.mark.parametrize("failure", FAILURES)
def test_failures_count_as_wrong(failure: Failure) -> None:
    scores = REC()([answer(0, strip(100)), answer(1, failure=failure)])
    assert scores["acc@0.25"] == scores["acc@0.5"] == scores["acc@0.75"] == scores["mean_iou"] == 0.5
    assert {name: scores[f"failure_{name}"] for name in FAILURES} == {name: name == failure for name in FAILURES}


def test_a_failure_outweighs_a_readable_box() -> None:
    assert iou_of(answer(0, strip(100), failure="wrong_count")) == 0


def test_of_several_boxes_none_is_credited() -> None:
    prediction = answer(0, strip(100), strip(100))
    assert failure_of(prediction) == "wrong_count"
    assert REC()([prediction])["failure_wrong_count"] == 1
    assert REC()([prediction])["acc@0.25"] == 0


def test_no_box_is_a_failure_even_where_the_reader_named_none() -> None:
    assert failure_of(answer(0)) == "none"
    assert iou_of(answer(0)) == 0


def test_a_box_on_another_image_is_wrong_but_readable() -> None:
    prediction = answer(0, Box(x1=0, y1=0, x2=100, y2=10, image=1))
    assert (iou_of(prediction), failure_of(prediction)) == (0, None)


def nothing_there(index: int, *boxes: Box, **found: Any) -> Prediction:
    """An answer to a question about something that is not in the image."""
    return Prediction(key=f"a:{index}", index=index, text="", boxes=boxes, truth=GroundTruth(no_target=True), **found)


@pytest.mark.parametrize(
    ("prediction", "failure"),
    [
        (nothing_there(0), None),
        (nothing_there(0, strip(50)), "wrong_count"),
        (nothing_there(0, strip(50), strip(60)), "wrong_count"),
        (nothing_there(0, points=(Point(x=1, y=1),)), "wrong_count"),
        (nothing_there(0, failure="malformed"), "malformed"),
    ],
)
def test_where_nothing_is_an_answer_without_a_region_is_right(prediction: Prediction, failure: Failure | None) -> None:
    assert failure_of(prediction) == failure
    assert iou_of(prediction) == (failure is None)
    scores = REC(constant_box=True)([prediction])
    assert scores["acc@0.5"] == scores["acc@0.75"] == scores["no_target_acc"] == (failure is None)
    assert (scores["no_target_count"], scores["constant_box_acc@0.5"]) == (1, 0)


@pytest.mark.parametrize(
    ("text", "failure"),
    [("<think>there is no", "malformed"), ("<think>no dog</think> none", None), ("", None), ("None.", None)],
)
def test_where_nothing_is_an_answer_that_was_cut_off_while_thinking_is_wrong(text: str, failure: str | None) -> None:
    found = Prediction(key="a", index=0, text=text, truth=GroundTruth(no_target=True))
    assert failure_of(found) == failure
    assert REC()([found])["acc@0.5"] == (failure is None)


def test_items_with_and_without_a_target_are_scored_together() -> None:
    given = [answer(0, strip(100)), answer(1), nothing_there(2), nothing_there(3, strip(100)), nothing_there(4)]
    scores = REC(constant_box=True)(given)
    assert scores["acc@0.5"] == scores["mean_iou"] == pytest.approx(3 / 5)
    assert scores["no_target_acc"] == pytest.approx(2 / 3)
    assert (scores["no_target_count"], scores["failure_none"], scores["failure_wrong_count"]) == (3, 1, 1)
    assert scores["constant_box_acc@0.5"] == pytest.approx(2 / 5)  # no single box is right where there is nothing


def test_clipped_answers_are_counted_and_scored() -> None:
    given = [replace(answer(0, strip(100)), clipped=2), replace(answer(1, strip(100)), clipped=1), answer(2, strip(9))]
    scores = REC()(given)
    assert (scores["clipped"], scores["acc@0.5"]) == (2, pytest.approx(2 / 3))


@pytest.mark.parametrize("boxes", [(), (TRUTH, TRUTH)])
def test_the_truth_is_one_box(boxes: tuple[Box, ...]) -> None:
    prediction = Prediction(key="a:0", index=0, text="", truth=GroundTruth(boxes=boxes))
    with pytest.raises(DataError, match=f"a:0: truth.boxes: expected exactly one box, found {len(boxes)}"):
        REC()([prediction])


def test_no_predictions() -> None:
    with pytest.raises(DataError, match="expected predictions to score, found none"):
        REC()([])


def test_two_predictions_for_one_item() -> None:
    with pytest.raises(DataError, match="a:1: expected one prediction for item 1, found two"):
        REC()([answer(1, TRUTH), answer(0, TRUTH), answer(1)])


def random_answers(seed: int, count: int) -> list[Prediction]:
    draw = random.Random(seed)

    def box() -> Box:
        (x1, x2), (y1, y2) = (sorted(draw.uniform(0, 100) for _ in range(2)) for _ in range(2))
        return Box(x1=x1, y1=y1, x2=x2, y2=y2)

    return [answer(index, *[box()] * draw.choice([0, 1, 1, 1, 2]), truth=box()) for index in range(count)]


@given(st.integers(0, 1000), st.randoms(use_true_random=False))
def test_the_order_of_predictions_does_not_matter(seed: int, shuffle: random.Random) -> None:
    answers = random_answers(seed, 40)
    shuffled = shuffle.sample(answers, len(answers))
    assert REC(constant_box=True)(shuffled) == REC(constant_box=True)(answers)


@pytest.mark.parametrize("seed", range(5))
def test_scores_agree_with_their_definition(seed: int) -> None:
    answers = random_answers(seed, 60)
    ious = [iou(a.boxes[0], a.truth.boxes[0]) if len(a.boxes) == 1 else 0 for a in answers]
    scores = REC()(answers)
    for threshold in (0.25, 0.5, 0.75):
        assert scores[f"acc@{threshold}"] == sum(value > threshold for value in ious) / 60
    assert scores["mean_iou"] == pytest.approx(math.fsum(ious) / 60)
    assert scores["count"] == 60


@pytest.mark.parametrize("seed", range(5))
def test_constant_box_is_the_best_of_the_truths(seed: int) -> None:
    truths = [a.truth.boxes[0] for a in random_answers(seed, 80)]
    best = max(sum(iou(candidate, truth) > 0.5 for truth in truths) for candidate in truths)
    assert constant_box_accuracy(truths, threshold=0.5) == best / 80
    assert REC(constant_box=True)(random_answers(seed, 80))["constant_box_acc@0.5"] == best / 80


def test_constant_box_tries_a_bounded_number_evenly_spaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mllm.metrics.rec.MAX_CANDIDATES", 3)
    truths = [a.truth.boxes[0] for a in random_answers(0, 9)]
    best = max(sum(iou(truths[tried], truth) > 0.5 for truth in truths) for tried in (0, 4, 8))
    assert constant_box_accuracy(truths, threshold=0.5) == best / 9


def test_constant_box_where_every_truth_is_the_same() -> None:
    assert REC(constant_box=True)([answer(n, truth=TRUTH) for n in range(3)])["constant_box_acc@0.5"] == 1


def test_constant_box_of_truths_without_area() -> None:
    dot = Box(x1=5, y1=5, x2=5, y2=5)
    assert constant_box_accuracy([dot, dot], threshold=0.5) == 0


def test_the_reading_of_the_codec_has_a_name() -> None:
    assert METRICS.make({"type": "REC", "reading": "codec"})([answer(0, TRUTH)])["acc@0.5"] == 1


def test_constant_box_is_left_out_unless_asked_for() -> None:
    assert "constant_box_acc@0.5" not in REC()([answer(0, TRUTH)])


def test_every_score_but_the_count_has_a_meaning() -> None:
    among_others = replace(answer(2, TRUTH), truth=GroundTruth(boxes=(TRUTH,), candidates=(TRUTH, strip(10))))
    scores: dict[str, Any] = REC(constant_box=True)([answer(0, TRUTH), nothing_there(1), among_others])
    assert set(scores) - {"count"} == set(REC.meanings)
    assert REC.headline in scores


def test_an_answer_on_another_known_object_is_counted() -> None:
    other = Box(x1=0, y1=50, x2=100, y2=60)
    truth = GroundTruth(boxes=(TRUTH,), candidates=(TRUTH, other))

    def said(index: int, *boxes: Box, failure: Failure | None = None) -> Prediction:
        return Prediction(key=f"a:{index}", index=index, text="", boxes=boxes, failure=failure, truth=truth)

    elsewhere = Box(x1=200, y1=200, x2=210, y2=210)
    answers = [said(0, other), said(1, TRUTH), said(2, elsewhere), said(3), said(4, other, failure="malformed")]
    assert REC()(answers)["wrong_object"] == 1
    assert "wrong_object" not in REC()([answer(0, strip(100))])


@pytest.mark.parametrize(
    ("box", "other", "expected"),
    [
        (strip(100), strip(60), False),  # right, though the other is near
        (strip(50), strip(60), True),  # a tie with the right one is wrong
        (strip(30), strip(60), False),  # and a tie with the other is not on it
        (strip(30), strip(59), True),
        (strip(30), replace(strip(59), image=1), False),
    ],
)
def test_is_on_another_at_its_bounds(box: Box, other: Box, expected: bool) -> None:
    truth = GroundTruth(boxes=(TRUTH,), candidates=(TRUTH, other))
    assert is_on_another(replace(answer(0, box), truth=truth)) == expected


def test_constant_box_tries_512_of_513_truths() -> None:
    """Evenly spaced, all but the last but one are tried: here the only one that overlaps with two others."""
    truths = [Box(x1=n, y1=n, x2=n + 1, y2=n + 1) for n in range(0, 1020, 2)]
    truths += [Box(x1=2000, y1=y, x2=2010, y2=y + 10) for y in (0, 3, 6)]
    assert len(truths) == 513
    assert constant_box_accuracy(truths, threshold=0.5) == 2 / 513
