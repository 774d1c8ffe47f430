from __future__ import annotations

from dataclasses import replace

import pytest

from mllm.errors import DataError
from mllm.metrics.ref_l4 import RefL4, accuracy, object_size
from tests.metrics.official_boxes import SCORES, answer, boxes, stored_answers

MERGED = {"refcoco_1": "o365_1", "refcoco_16": "o365_56"}
"""How the public code merges the classes of the stored case."""
NAMES = {
    "Ann-level acc iou 0.5": "acc@0.5",
    "Ann-level acc iou 0.75": "acc@0.75",
    "Ann-level acc iou 0.9": "acc@0.9",
    "Ann-level macc iou 0.5:0.95": "macc",
    "Small acc iou 0.5": "acc@0.5/small",
    "Small macc iou 0.5:0.95": "macc/small",
    "Medium acc iou 0.5": "acc@0.5/medium",
    "Medium macc iou 0.5:0.95": "macc/medium",
    "Large acc iou 0.5": "acc@0.5/large",
    "Large macc iou 0.5:0.95": "macc/large",
    "Average class-level acc iou 0.5": "class_acc@0.5",
    "Average class-level macc iou 0.5:0.95": "class_macc",
}


def test_scores_equal_the_public_code() -> None:
    """It takes one box of each answer, and the first one of the truth."""
    given = [
        replace(
            one,
            boxes=one.boxes[:1],
            truth=replace(one.truth, boxes=one.truth.boxes[:1]),
            group={"category": MERGED.get(str(one.group["category"]), one.group["category"])},
        )
        for one in stored_answers("category")
        if one.truth.boxes
    ]
    scores = RefL4()(given)
    assert {theirs: 100 * scores[ours] for theirs, ours in NAMES.items()} == pytest.approx(SCORES["ref_l4"], abs=1e-4)


@pytest.mark.parametrize(
    ("side", "size"), [(127.9, "small"), (128, "medium"), (256, "medium"), (256.1, "large"), (0, "small")]
)
def test_size_is_the_square_root_of_the_area(side: float, size: str) -> None:
    assert object_size(answer(0, (), boxes([0, 0, side, side]))) == size


def test_unreadable_answers_are_wrong_and_counted() -> None:
    true = boxes([0, 0, 10, 10])
    scores = RefL4(group=None)([answer(0, true, true), answer(1, (), true), answer(2, true * 2, true)])
    assert scores["acc@0.5"] == scores["macc/small"] == pytest.approx(1 / 3)
    assert (scores["failure_none"], scores["failure_wrong_count"], scores["count/small"]) == (1, 1, 3)
    assert "class_macc" not in scores


def test_the_value_is_the_share_of_thresholds_below_the_overlap() -> None:
    true = boxes([0, 0, 100, 10])
    assert [RefL4().value(answer(0, boxes([0, 0, x2, 10]), true)) for x2 in (50, 51, 74, 100)] == [0, 0.1, 0.5, 1]
    assert accuracy([0.5, 0.6], 0.5) == 0.5


def test_clipped_answers_are_counted() -> None:
    true = boxes([0, 0, 10, 10])
    scores = RefL4(group=None)([answer(0, true, true, clipped=1), answer(1, true, true)])
    assert (scores["clipped"], scores["count"]) == (1, 2)


def test_every_score_but_the_counts_has_a_meaning() -> None:
    given = [
        answer(number, (), boxes([0, 0, side, side]), group={"category": "dog"})
        for number, side in enumerate((100, 200, 300))
    ]
    scores = RefL4()(given)
    assert {name for name in scores if not name.startswith("count")} == set(RefL4.meanings)
    assert RefL4.headline in scores
    assert [RefL4().parts_of(each) for each in given] == [{"box size": [s]} for s in ("small", "medium", "large")]


def test_errors() -> None:
    true = boxes([0, 0, 10, 10])
    with pytest.raises(DataError, match=r"a:0: truth.boxes: expected exactly one box, found none"):
        RefL4(group=None)([answer(0)])
    with pytest.raises(DataError, match=r"a:0: truth.boxes: expected exactly one box, found 2"):
        RefL4(group=None)([answer(0, true, true * 2)])
    with pytest.raises(DataError, match=r"a:0: group: expected a value for 'category'"):
        RefL4()([answer(0, true, true)])
