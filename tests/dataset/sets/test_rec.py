from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from mllm.errors import ConfigError, DataError
from mllm.registry import DATASETS
from mllm.types import Box, GroundTruth, Item

LINE = {"img_path": "a.jpg", "expression": r"the {red} \1 cup <3", "bbox": [1, 2, 30.5, 40]}
BOX = Box(x1=1, y1=2, x2=30.5, y2=40)


@pytest.fixture
def rec(jsonl: Callable[..., str], pool: Callable[[Sequence[Any]], str]) -> Callable[..., Item]:
    """The Item of one line, by way of the registry."""

    def read(line: Any, epoch: int | None = None, kind: str = "REC", **arguments: Any) -> Item:
        templates = {
            "REC": ["<image>\nWhere is <expr>?", "<expr>: where?\n<image>"],
            "REG": ["<image>\nWhat is <objs>?"],
        }
        dataset = DATASETS.make({"type": kind, **arguments}, filename=jsonl(line), questions=pool(templates[kind]))
        dataset.set_epoch(epoch)
        return dataset[0]

    return read


def test_rec(rec: Callable[..., Item]) -> None:
    item = rec(LINE)
    assert [(turn.role, turn.text, turn.boxes_seq) for turn in item.turns] == [
        ("human", "<image>\nWhere is the {red} \\1 cup <3?", ()),
        ("gpt", "Answer: <boxes> .", ((0,),)),
    ]
    assert item.truth == GroundTruth(boxes=(BOX,), texts=("Answer: <boxes> .",))


def test_rec_of_something_that_is_not_there(rec: Callable[..., Item]) -> None:
    item = rec({**LINE, "bbox": []})
    assert (item.boxes, item.turns[1].boxes_seq) == ((), ((),))
    assert item.truth == GroundTruth(no_target=True, texts=("Answer: <boxes> .",))
    with pytest.raises(DataError, match="bbox: expected a list, found nothing"):
        rec({**LINE, "bbox": None})
    with pytest.raises(DataError, match=r"target.boxes\[0\]: expected 4 numbers"):
        rec({**LINE, "bbox": []}, kind="REG")


def test_rec_draws_its_question_in_training(rec: Callable[..., Item]) -> None:
    assert len({rec(LINE, epoch=epoch).turns[0].text for epoch in range(20)}) == 2


def test_rec_answers_as_told(rec: Callable[..., Item]) -> None:
    assert rec(LINE, answer="<boxes>").turns[1].text == "<boxes>"
    assert rec(LINE, answer="<expr><boxes>").turns[1].text == r"the {red} \1 cup <3<boxes>"
    with pytest.raises(ConfigError) as caught:
        rec(LINE, answer="there")
    assert str(caught.value) == "dataset 'REC': answer: expected a text with <boxes> in it once, found str 'there'"


def test_reg(rec: Callable[..., Item]) -> None:
    item = rec(LINE, kind="REG")
    assert [(turn.role, turn.text, turn.boxes_seq) for turn in item.turns] == [
        ("human", "<image>\nWhat is <boxes>?", ((0,),)),
        ("gpt", LINE["expression"], ()),
    ]
    assert item.boxes == (BOX,)
    assert item.truth == GroundTruth(texts=(str(LINE["expression"]),))


@pytest.mark.parametrize("kind", ["REC", "REG"])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bbox": None}, "bbox: expected a list, found nothing"),
        ({"bbox": [1, 2, "3", 4]}, "target.boxes[0]: expected 4 numbers, found list \"[1, 2, '3', 4]\""),
        ({"bbox": [100, 50, 20, 60]}, "target.boxes[0]: expected x1 <= x2 and y1 <= y2"),
        ({"expression": 5}, "expression: expected a text, found int '5'"),
        ({"expression": "<boxes>"}, "expression: expected a text without the reserved <boxes>, found '<boxes>'"),
        ({"expression": " "}, "expression: expected words, found ' '"),
        ({"img_path": "file:///b.jpg"}, "image: file:///b.jpg: expected a protocol among http, "),
    ],
)
def test_bad_lines(rec: Callable[..., Item], kind: str, change: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError) as caught:
        rec({**LINE, **change}, kind=kind)
    assert f"lines.jsonl:1: {message}" in str(caught.value)


@pytest.mark.parametrize("missing", ["img_path", "expression", "bbox"])
def test_missing_fields(rec: Callable[..., Item], missing: str) -> None:
    line = {name: value for name, value in LINE.items() if name != missing}
    kind = "a list" if missing == "bbox" else "a text"
    with pytest.raises(DataError) as caught:
        rec(line)
    assert str(caught.value).endswith(
        f"lines.jsonl:1: {missing}: expected {kind}, found nothing (the record has {', '.join(line)})"
    )
