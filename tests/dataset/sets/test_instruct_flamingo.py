from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from mllm.errors import DataError
from mllm.images import FileImage
from mllm.registry import DATASETS
from mllm.types import Item


@pytest.fixture
def read(jsonl: Callable[..., str]) -> Callable[..., Item]:
    def item(**line: Any) -> Item:
        return DATASETS.make({"type": "InstructFlamingo", "filename": jsonl(line), "image_folder": "images"})[0]

    return item


def test_images_stand_where_the_text_has_them(read: Callable[..., Item]) -> None:
    item = read(input="Was <img_path>a/1.png<img_path>, is {now} <img_path>/b 2.png<img_path>.", output="It moved.")
    assert [turn.text for turn in item.turns] == ["Was <image>, is {now} <image>.", "It moved."]
    assert item.images == (FileImage("images/a/1.png"), FileImage("/b 2.png"))


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


def test_regions_in_the_words_become_typed(jsonl: Callable[..., str], tmp_path: Path) -> None:
    for name, width in (("a.png", 10), ("b.png", 1000)):
        Image.new("RGB", (width, 500)).save(tmp_path / name)
    box = "<|box_start|>(0,0),(500,1000)<|box_end|>"
    line = {"input": f"<img_path>b.png<img_path> What is {box}?", "output": f"A dog, {box}."}
    filename = jsonl(line, {"input": "<img_path>a.png<img_path><img_path>b.png<img_path>?", "output": box})
    for kind in ("InstructFlamingo", "InstructFlamingoMixture"):
        dataset = DATASETS.make(
            {"type": kind, "filename": filename, "image_folder": str(tmp_path), "regions": "qwen2_vl"}
        )
        assert [turn.text for turn in dataset[0].turns] == ["<image> What is <boxes>?", "A dog, <boxes>."]
        assert [box.xyxy for box in dataset[0].boxes] == [(0, 0, 500, 500)] * 2
        with pytest.raises(DataError, match="expected regions in words on one image, found some in a record of 2"):
            dataset[1]
