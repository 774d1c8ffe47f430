from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from mllm.errors import ConfigError, DataError
from mllm.registry import DATASETS
from mllm.types import Item, Point

LOCAL = {"file_path": "1.jpg", "question": "What colour is it?", "answer": "red", "bbox": [1, 2, 9, 8], "point": [4, 5]}
TWICE = {
    "file_path": "1.jpg",
    "obj_question": "How many cars?",
    "super_question": "How many vehicles?",
    "general_question": "How many of these?",
    "answer": "2",
    "bbox": [1, 2, 9, 8],
    "point": [4, 5],
}
WHICH = {
    "file_path": "v7w_1.jpg",
    "question": "Which is the clock?",
    "candidates": [[0, 0, 1, 1], [2, 2, 3, 3], [4, 4, 5, 5], [6, 6, 7, 7]],
    "answer": [6, 6, 7, 7],
    "point": [6.5, 6.5],
}


@pytest.fixture
def read(jsonl: Callable[..., str], pool: Callable[[Sequence[Any]], str]) -> Callable[..., Item]:
    def item(kind: str, line: Any, epoch: int | None = None, **arguments: Any) -> Item:
        dataset = DATASETS.make(
            {"type": kind, **arguments}, filename=jsonl(line), questions=pool(["<image>\n<question>"])
        )
        dataset.set_epoch(epoch)
        return dataset[0]

    return item


def test_a_point_or_a_box_behind_the_question(read: Callable[..., Item]) -> None:
    point, box = (read("PointQALocal", LOCAL, version=version) for version in ("p", "b"))
    assert point.turns[0].text == "<image>\nWhat colour is it? <points>"
    assert point.points == (Point(x=4, y=5),)
    assert box.turns[0].text == "<image>\nWhat colour is it? <boxes>"
    assert box.boxes[0].xyxy == (1, 2, 9, 8)
    assert point.turns[1].text == box.turns[1].text == "The answer is red."
    assert point.truth.texts == ("red",)
    drawn = {read("PointQALocal", LOCAL, epoch, version="bp").turns[0].text for epoch in range(20)}
    assert drawn == {point.turns[0].text, box.turns[0].text}
    assert read("PointQALocal", LOCAL, version="bp").turns == point.turns


def test_look_twice(read: Callable[..., Item]) -> None:
    asked = [read("PointQATwice", TWICE, version=version).turns[0].text for version in ("oq-b", "sq-p", "gq-bp")]
    assert asked == [
        "<image>\nHow many cars? <boxes>",
        "<image>\nHow many vehicles? <points>",
        "<image>\nHow many of these? <points>",
    ]
    with pytest.raises(
        ConfigError, match=r"'PointQATwice': version: expected one of .*, found str 'gqp'; did you mean"
    ):
        read("PointQATwice", TWICE, version="gqp")


def test_which_of_the_boxes(read: Callable[..., Item]) -> None:
    item = read("V7WPointing", WHICH)
    assert item.turns[0].text == (
        "<image>\nWhich is the clock? Answer with its box. Candidates: <boxes> <boxes> <boxes> <boxes>"
    )
    assert item.turns[1].text == "The answer is <boxes>."
    assert item.turns[1].boxes_seq == ((3,),)
    assert [box.xyxy for box in item.truth.boxes] == [(6, 6, 7, 7)]
    assert sorted(box.x1 for box in item.truth.candidates) == [0, 2, 4, 6]
    assert item.truth.candidates[0] == item.truth.boxes[0]  # the right one first
    assert item == read("V7WPointing", WHICH)
    orders = {read("V7WPointing", WHICH, epoch).turns[0].boxes_seq for epoch in range(30)}
    assert len({order.index((3,)) for order in orders}) == 4  # the answer stands anywhere


def test_the_answer_as_a_point(read: Callable[..., Item]) -> None:
    item = read("V7WPointing", WHICH, version="p")
    assert item.turns[1].text == "The answer is <points>."
    assert item.truth.points == (Point(x=6.5, y=6.5),)
    assert item.truth.boxes == ()
    assert len(item.truth.candidates) == 4


def test_bad_lines(read: Callable[..., Item]) -> None:
    with pytest.raises(DataError, match=r"lines\.jsonl:1: answer: expected one of the candidates, found "):
        read("V7WPointing", {**WHICH, "answer": [1, 1, 1, 1]})
    with pytest.raises(DataError, match=r"lines\.jsonl:1: point: expected a list, found nothing"):
        read("PointQALocal", {name: value for name, value in LOCAL.items() if name != "point"})
