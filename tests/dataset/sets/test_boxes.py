from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from mllm.errors import DataError
from mllm.registry import DATASETS
from mllm.types import Item

LINE = {"img_path": "a.jpg", "expression": "the dogs", "boxes": [[1, 2, 30.5, 40], [5, 5, 9, 9]]}
HUMAN_REF = {
    "id": 0,
    "image_name": "0.jpg",
    "referring": "the people in red",
    "domain": "attribute",
    "sub_domain": "1000_attribute_retranslated_with_mask",
    "answer_boxes": [[1.5, 2, 30, 40], [5, 5, 9, 9]],
    "candidate_boxes": [[1.5, 2, 30, 40], [5, 5, 9, 9], [0, 0, 2, 2]],
    "answer_segmentations": [{"size": [50, 50], "counts": "abc"}] * 2,
}


@pytest.fixture
def read(jsonl: Callable[..., str], pool: Callable[[Sequence[Any]], str]) -> Callable[..., Item]:
    def item(line: Any, kind: str = "BoxList", **arguments: Any) -> Item:
        templates = pool(["<image>\nFind <expr>."])
        return DATASETS.make({"type": kind, **arguments}, filename=jsonl(line), questions=templates)[0]

    return item


def test_box_list_answers_with_all_boxes(read: Callable[..., Item]) -> None:
    item = read({**LINE, "labels": ["dog", "puppy"], "group": {"type": "animals"}})
    assert item.turns[0].text == "<image>\nFind the dogs."
    assert (item.turns[1].text, item.turns[1].boxes_seq) == ("Answer: <boxes> .", ((0, 1),))
    assert [(box.xyxy, box.label) for box in item.truth.boxes] == [((1, 2, 30.5, 40), "dog"), ((5, 5, 9, 9), "puppy")]
    assert item.group == {"type": "animals"}


def test_box_list_of_something_that_is_not_there(read: Callable[..., Item]) -> None:
    item = read({**LINE, "boxes": []}, answer="<boxes>")
    assert (item.turns[1].boxes_seq, item.truth.no_target) == (((),), True)


def test_faults_of_box_list(read: Callable[..., Item]) -> None:
    with pytest.raises(DataError, match=r"boxes: expected a list, found nothing"):
        read({**LINE, "boxes": None})
    with pytest.raises(DataError, match=r"target.labels: expected 2 entries, one for each box, found 1"):
        read({**LINE, "labels": ["dog"]})
    with pytest.raises(DataError, match=r"target.boxes\[0\]: expected x1 <= x2"):
        read({**LINE, "boxes": [[9, 2, 3, 4]]})


def test_human_ref(read: Callable[..., Item]) -> None:
    item = read(HUMAN_REF, "HumanRef")
    assert [box.xyxy for box in item.truth.boxes] == [(1.5, 2, 30, 40), (5, 5, 9, 9)]
    assert item.group == {"domain": "attribute", "sub_domain": "1000_attribute_retranslated_with_mask"}


@pytest.mark.parametrize("boxes", [[], [[]]])
def test_human_ref_rejection(read: Callable[..., Item], boxes: list[Any]) -> None:
    assert read({**HUMAN_REF, "answer_boxes": boxes, "domain": "rejection"}, "HumanRef").truth.no_target
