from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from mllm.errors import DataError
from mllm.images import FileImage
from mllm.registry import DATASETS
from mllm.types import Item


@pytest.fixture
def read(jsonl: Callable[..., str]) -> Callable[..., Item]:
    def item(**line: Any) -> Item:
        return DATASETS.make({"type": "InstructFlamingo", "filename": jsonl(line), "image_folder": "pictures"})[0]

    return item


def test_pictures_stand_where_the_text_has_them(read: Callable[..., Item]) -> None:
    item = read(input="Was <img_path>a/1.png<img_path>, is {now} <img_path>/b 2.png<img_path>.", output="It moved.")
    assert [turn.text for turn in item.turns] == ["Was <image>, is {now} <image>.", "It moved."]
    assert item.images == (FileImage("pictures/a/1.png"), FileImage("/b 2.png"))


def test_text_alone_and_a_legacy_instruction(read: Callable[..., Item]) -> None:
    item = read(instruction="Add. ", input="1, 2", output="3")
    assert [turn.text for turn in item.turns] == ["Add. 1, 2", "3"]
    assert item.images == ()
    assert read(input="<img_path>a.png<img_path>", output="A cat.").turns[0].text == "<image>"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ({"input": "?", "output": " \n"}, "output: expected words, found ' \\n'"),
        ({"input": "?"}, "output: expected a text, found nothing (the record has input)"),
        ({"input": "<img_path>a.png", "output": "b"}, "input: expected <img_path> before and after each path"),
        ({"input": "?", "output": "<img_path>a<img_path>"}, "and none in the output"),
        (
            {"input": "an <image>", "output": "b"},
            "input: expected a text without the reserved <image>, found 'an <image>'",
        ),
    ],
)
def test_bad_lines(read: Callable[..., Item], line: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError) as caught:
        read(**line)
    assert "lines.jsonl:1: " in str(caught.value)
    assert message in str(caught.value)
