from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from mllm.dataset.sets.instruct import Instruct, TextOnly
from mllm.errors import ConfigError, DataError
from mllm.images import FileImage, Video
from mllm.types import Box, Item


def human(text: str) -> dict[str, Any]:
    return {"from": "human", "value": text}


def gpt(text: str) -> dict[str, Any]:
    return {"from": "gpt", "value": text}


@pytest.fixture
def instruct(jsonl: Callable[..., str]) -> Callable[..., Item]:
    def read(*turns: Any, **fields: Any) -> Item:
        return Instruct(filename=jsonl({"id": "1", **fields, "conversations": list(turns)}), image_folder="coco")[0]

    return read


def test_conversations_stay_as_they_are(instruct: Callable[..., Item]) -> None:
    item = instruct(human("What is {this}?\n<image>"), gpt("A cat."), human("Sure?"), gpt("Yes."), image="a/b.jpg")
    assert item.images == (FileImage("coco/a/b.jpg"),)
    assert [turn.text for turn in item.turns] == ["What is {this}?\n<image>", "A cat.", "Sure?", "Yes."]


def test_lines_without_an_image(instruct: Callable[..., Item]) -> None:
    for fields in ({}, {"image": None}):
        item = instruct(human("Hello"), gpt("Hi"), **fields)
        assert item.images == ()


def test_an_image_that_no_text_mentions_goes_first(instruct: Callable[..., Item]) -> None:
    item = instruct(human("What?"), gpt("A cat."), image="a.jpg")
    assert item.turns[0].text == "<image>\nWhat?"


def test_an_image_mentioned_later_stays_there(instruct: Callable[..., Item]) -> None:
    item = instruct(human("Hello"), gpt("Hi"), human("<image>\nWhat?"), gpt("A cat."), image="a.jpg")
    assert [turn.text for turn in item.turns] == ["Hello", "Hi", "<image>\nWhat?", "A cat."]


def test_an_answer_to_nothing_is_dropped(instruct: Callable[..., Item]) -> None:
    item = instruct(gpt("..."), human("Hello"), gpt("Hi"))
    assert [turn.text for turn in item.turns] == ["Hello", "Hi"]


def test_several_images_and_a_video(instruct: Callable[..., Item]) -> None:
    item = instruct(human("<image> or <image>?"), gpt("The first."), images=["a.jpg", ["b.jpg", "c.jpg"]])
    frames = (FileImage("coco/b.jpg"), FileImage("coco/c.jpg"))
    assert item.images == (FileImage("coco/a.jpg"), Video(frames))
    with pytest.raises(DataError, match=r"lines\.jsonl:1: images: expected a list, found str 'a\.jpg'"):
        instruct(human("<image>?"), gpt("Yes."), images="a.jpg")
    with pytest.raises(DataError, match="expected 'image' or 'images', found both"):
        instruct(human("<image>?"), gpt("Yes."), image="a.jpg", images=["a.jpg"])


def test_conversations_that_point(instruct: Callable[..., Item]) -> None:
    item = instruct(
        human("Where?"), {**gpt("<boxes>"), "boxes_seq": [[0]]}, image="a.jpg", target={"boxes": [[1, 2, 3, 4]]}
    )
    assert item.truth.boxes == (Box(x1=1, y1=2, x2=3, y2=4),)


def test_a_line_may_say_what_a_record_does(instruct: Callable[..., Item]) -> None:
    also = {"truth": {"texts": ["two", "2"]}, "system": "Be short.", "expression": "dogs"}
    item = instruct(human("How many?"), gpt("Two dogs."), image="a.jpg", **also)
    assert (item.truth.texts, item.system, item.expression) == (("two", "2"), "Be short.", "dogs")
    assert instruct(human("How many?"), gpt("Two."), system="").system is None


@pytest.mark.parametrize(
    ("turns", "fields", "message"),
    [
        (
            [human("a"), {"from": "gpt"}],
            {},
            "conversations[1]: expected an object with the texts 'from' and 'value', found dict \"{'from': 'gpt'}\"",
        ),
        (["hello"], {}, "conversations[0]: expected an object with the texts 'from' and 'value', found str 'hello'"),
        ([human("a"), human("b")], {}, "conversations[1].from: expected 'gpt' (turns alternate), found 'human'"),
        ([], {}, "conversations: expected at least one turn, found none"),
        ([human("<image>"), gpt("b")], {}, "conversations: expected 0 <image>, one for each image, found 1"),
        (
            [{"from": "system", "value": "a"}],
            {},
            "conversations[0].from: expected 'human' or 'gpt', found str 'system'",
        ),
    ],
)
def test_bad_conversations(instruct: Callable[..., Item], turns: Any, fields: Any, message: str) -> None:
    with pytest.raises(DataError) as caught:
        instruct(*turns, **fields)
    assert str(caught.value).endswith(f"lines.jsonl:1: {message}")


def test_text_only(jsonl: Callable[..., str]) -> None:
    path = jsonl(
        {"instruction": "Add {}.", "input": "1, 2", "output": "3"},
        {"instruction": "Greet.", "input": "", "output": "Hello"},
        {"instruction": "Greet.", "output": 1},
    )
    dataset = TextOnly(filename=path)
    assert [turn.text for turn in dataset[0].turns] == ["Add {}.\n1, 2", "3"]
    assert [turn.text for turn in dataset[1].turns] == ["Greet.", "Hello"]
    with pytest.raises(DataError) as caught:
        dataset[2]
    assert str(caught.value) == f"{path}:3: output: expected a text, found int '1'"


SAID = (
    human("<image>\nWhere is <ref>the dog</ref>?"),
    gpt("<ref>the dog</ref><box>[[100, 200, 500, 1000]]</box> runs. [1, 2, 3, 4]"),
    human("And <box>[[0, 0, 10, 10]]</box>?"),
    gpt("A cat."),
)
"""InternVL's public format."""


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """Of 1000 x 500 pixels."""
    Image.new("RGB", (1000, 500)).save(tmp_path / "a.png")
    return tmp_path


def test_regions_in_the_words_become_typed(jsonl: Callable[..., str], photo: Path) -> None:
    filename = jsonl({"image": "a.png", "conversations": list(SAID)})
    item = Instruct(filename=filename, image_folder=str(photo), regions="internvl")[0]
    assert [(turn.text, turn.boxes_seq) for turn in item.turns] == [
        ("<image>\nWhere is the dog?", ()),
        ("the dog <boxes> runs. [1, 2, 3, 4]", ((0,),)),
        ("And <boxes>?", ((1,),)),
        ("A cat.", ()),
    ]
    assert [box.xyxy for box in item.boxes] == [(100, 100, 500, 500), (0, 0, 10, 5)]
    as_words = Instruct(filename=filename, image_folder=str(photo))[0]
    assert [turn.text for turn in as_words.turns] == [turn["value"] for turn in SAID]


def test_a_region_that_cannot_be_read_is_named(jsonl: Callable[..., str], photo: Path) -> None:
    filename = jsonl(
        *({"image": "a.png", "conversations": [human("?"), gpt(f"<box>[[0, 0, {x}, 9]]</box>")]} for x in (9, 1009))
    )
    dataset = Instruct(filename=filename, image_folder=str(photo), regions="internvl")
    assert dataset[0].boxes[0].x2 == 9
    with pytest.raises(DataError) as caught:
        dataset[1]
    assert str(caught.value) == (
        f"{filename}:2: conversations[1].value: '<box>[[0, 0, 1009, 9]]</box>': internvl cannot read it: out_of_range"
    )
    assert caught.value.kind == "words-region"
    with pytest.raises(ConfigError, match="regions: unknown region codec type 'intern'"):
        Instruct(filename=filename, regions="intern")
