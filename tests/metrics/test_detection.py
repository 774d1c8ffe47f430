from __future__ import annotations

import contextlib
import io
import random
from dataclasses import replace
from typing import Any

import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from mllm.errors import DataError
from mllm.metrics.detection import STATS, Detection
from mllm.types import Box, Prediction
from tests.metrics.official_boxes import ITEMS, answer, boxes

NAMES = ("cat", "dog", "zebra")


def labelled(values: list[Any], draw: random.Random, *, scores: bool) -> list[Box]:
    return [
        replace(box, label=draw.choice(NAMES), score=round(draw.random(), 3) if scores else None)
        for box in boxes(*values)
    ]


def answers(*, scores: bool) -> list[Prediction]:
    """The stored boxes; labels of answers follow those of the truth about half of the time."""
    draw = random.Random(3)
    given: list[Prediction] = []
    for index, item in enumerate(ITEMS):
        found, true = (labelled(item[name], draw, scores=scores) for name in ("found", "true"))
        given.append(answer(index, found, true))
    return given


def by_hand(given: list[Prediction], *, names: bool) -> list[float]:
    """COCOeval on the files that COCO's own tools would be given."""

    def xywh(box: Box) -> list[float]:
        return [box.x1, box.y1, box.x2 - box.x1, box.y2 - box.y1]

    def number(box: Box) -> int:
        return NAMES.index(box.label or "") + 1 if names else 1

    truth = COCO()
    truth.dataset = {  # type: ignore[assignment]
        "images": [{"id": one.index} for one in given],
        "categories": [{"id": n + 1, "name": name} for n, name in enumerate(NAMES if names else NAMES[:1])],
        "annotations": [
            {"image_id": one.index, "category_id": number(box), "bbox": xywh(box), "iscrowd": 0}
            for one in given
            for box in one.truth.boxes
        ],
    }
    for n, annotation in enumerate(truth.dataset["annotations"], 1):
        annotation |= {"id": n, "area": annotation["bbox"][2] * annotation["bbox"][3]}
    found = [
        {"image_id": one.index, "category_id": number(box), "bbox": xywh(box), "score": box.score or 1}
        for one in given
        for box in one.boxes
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(found), "bbox")  # type: ignore[arg-type]
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation.stats.tolist()  # type: ignore[union-attr]


@pytest.mark.parametrize("labels", [True, False])
@pytest.mark.parametrize("scores", [True, False])
def test_scores_equal_cocoeval_run_by_hand(scores: bool, labels: bool, capsys: pytest.CaptureFixture[str]) -> None:
    given = answers(scores=scores)
    found = Detection(labels=labels)(given)
    assert [found[name] for name, _ in STATS] == pytest.approx(by_hand(given, names=labels), abs=1e-6)
    assert 0 < found["ap"] < found["ap50"] < 1
    assert capsys.readouterr().out == ""


def test_ap_is_the_mean_over_classes() -> None:
    found = Detection()(answers(scores=True))
    assert found["ap"] == pytest.approx(sum(found[f"ap/{name}"] for name in NAMES) / 3)


def test_a_perfect_answer_scores_one() -> None:
    true = boxes([0, 0, 50, 50], label="dog")
    scores = Detection()([answer(0, boxes([0, 0, 50, 50], label="Dog "), true), answer(1)])
    assert [scores[name] for name in ("ap", "ap_medium", "ar@1", "ap/dog")] == pytest.approx([1, 1, 1, 1])
    assert "ap_small" not in scores  # there is no such object
    assert scores["unknown_label"] == 0


def test_boxes_of_no_known_class_count_nowhere_and_are_counted() -> None:
    true = boxes([0, 0, 50, 50], label="dog")
    found = (*boxes([0, 0, 50, 50], label="dog"), *boxes([9, 9, 20, 20], label="unicorn"), *boxes([1, 1, 9, 9]))
    scores = Detection()([answer(0, found, true)])
    assert (scores["ap"], scores["unknown_label"], scores["boxes"]) == (pytest.approx(1), 2, 3)


def test_labels_of_answers_do_not_matter_where_no_truth_has_one() -> None:
    scores = Detection()([answer(0, boxes([0, 0, 50, 50], label="dog"), boxes([0, 0, 50, 50]))])
    assert (scores["ap"], scores["unknown_label"]) == (pytest.approx(1), 0)


def test_boxes_rank_by_their_scores_and_else_in_the_order_of_the_answer() -> None:
    true = boxes([0, 0, 50, 50])
    wrong, right = boxes([60, 60, 90, 90], [0, 0, 50, 50])
    assert Detection()([answer(0, [right, wrong], true)])["ap"] == pytest.approx(1)
    assert Detection()([answer(0, [wrong, right], true)])["ap"] == pytest.approx(0.5)
    assert Detection()([answer(0, [replace(wrong, score=0.1), replace(right, score=0.9)], true)])[
        "ap"
    ] == pytest.approx(1)


def test_an_answer_without_a_box_finds_nothing() -> None:
    scores = Detection()([answer(0, (), boxes([0, 0, 50, 50])), answer(1, (), (), failure="malformed")])
    assert (scores["ap"], scores["failure_none"], scores["failure_malformed"]) == (0, 1, 1)


def test_where_there_is_no_object_there_is_no_score() -> None:
    scores = Detection()([answer(0), answer(1, boxes([0, 0, 9, 9]))])
    assert "ap" not in scores
    assert (scores["count"], scores["boxes"], scores["true_boxes"]) == (2, 1, 0)


def test_boxes_of_no_known_class_take_nothing_from_others() -> None:
    true = boxes([0, 0, 50, 50], label="dog")
    found = (*boxes([60, 60, 90, 90], label="unicorn"), *boxes([0, 0, 50, 50], label="dog"))
    assert Detection()([answer(0, found, true)])["ap"] == pytest.approx(1)


def test_a_box_without_a_score_has_one() -> None:
    true = boxes([0, 0, 50, 50])
    wrong, right = boxes([60, 60, 90, 90], [0, 0, 50, 50])
    for score, ap in ((0.9, 0.5), (1.1, 1)):
        assert Detection()([answer(0, [wrong, replace(right, score=score)], true)])["ap"] == pytest.approx(ap)


def test_ap_of_a_class_is_over_a_hundred_boxes() -> None:
    true = boxes([0, 0, 50, 50], label="dog")
    wrong = boxes(*[[60, 60, 90, 90]] * 19, label="dog")
    scores = Detection()([answer(0, (*wrong, *true), true)])
    assert scores["ap/dog"] == scores["ap"] == pytest.approx(1 / 20)
    assert (scores["ar@1"], scores["ar@10"], scores["ar@100"]) == pytest.approx((0, 0, 1))


def test_every_score_but_the_count_has_a_meaning() -> None:
    true = boxes([0, 0, 20, 20], [0, 0, 50, 50], [0, 0, 99, 99])
    scores = Detection()([answer(0, true, true, clipped=1), answer(1, true, true)])
    assert set(scores) - {"count"} == set(Detection.meanings)
    assert Detection.headline in scores
    precisions = ["ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large"]
    assert [name for name, _ in STATS] == [*precisions, "ar@1", "ar@10", "ar@100", "ar_small", "ar_medium", "ar_large"]
    assert scores["clipped"] == 1
    assert [scores[name] for name, _ in STATS] == pytest.approx([1, 1, 1, 1, 1, 1, 1 / 3, 1, 1, 1, 1, 1])


def test_errors() -> None:
    mixed = (*boxes([0, 0, 9, 9], label="dog"), *boxes([0, 0, 9, 9]))
    with pytest.raises(DataError, match=r"a:0: target.labels: expected a label for each box"):
        Detection()([answer(0, (), mixed)])
