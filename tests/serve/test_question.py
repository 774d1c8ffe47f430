"""Messages become items, with every placeholder bound to what its own message brings."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mllm.errors import DataError
from mllm.images import FileImage, Video
from mllm.records import read_item
from mllm.serve.question import Message, as_messages, record_of, to_item
from mllm.types import Box, Point


def user(text: str, **more: Any) -> Message:
    return Message(role="user", text=text, **more)


def assistant(text: str, **more: Any) -> Message:
    return Message(role="assistant", text=text, **more)


def test_to_item_binds_images_boxes_and_points_in_order() -> None:
    item = to_item(
        [
            user(
                "What is <boxes> beside <boxes>?", images=["a.png"], boxes=[(1, 2, 3, 4), [(0, 0, 9, 9), (5, 5, 6, 6)]]
            ),
            assistant("A cat <boxes>.", boxes=[(7, 7, 8, 8)]),
            user("<image>And <points> here?", images=["b.png"], points=[(3, 4)]),
        ]
    )
    assert item.images == (FileImage("a.png"), FileImage("b.png"))
    assert item.turns[0].text == "<image>\nWhat is <boxes> beside <boxes>?"
    assert [turn.boxes_seq for turn in item.turns] == [((0,), (1, 2)), ((3,),), ()]
    assert [box.image for box in item.boxes] == [0, 0, 0, 0]
    assert item.points == (Point(x=3, y=4, image=1),)
    assert (item.answer_image, item.turns[2].points_seq) == (1, ((0,),))


def test_to_item_puts_bare_numbers_on_the_image_that_was_shown_last() -> None:
    said = [user("?", images=["a.png", "b.png"]), assistant("ok"), user("in <boxes>?", boxes=[(1, 2, 3, 4)])]
    assert to_item(said).boxes[0].image == 0
    second = Box(x1=1, y1=2, x2=3, y2=4, image=1)
    assert to_item([*said[:2], user("in <boxes>?", boxes=[second])]).boxes[0].image == 1
    later = [user("?", images=["a.png"]), assistant("ok"), user("?", images=["b.png"]), assistant("ok"), said[2]]
    assert to_item(later).boxes[0].image == 1


def test_to_item_takes_videos_and_pil_images() -> None:
    item = to_item([user("What happens?", images=[["1.png", "2.png"], Image.new("RGB", (4, 4))])])
    assert item.images[0] == Video((FileImage("1.png"), FileImage("2.png")))
    assert item.images[1].size == (4, 4)


def test_to_item_takes_one_image_or_region_without_a_list_and_arrays() -> None:
    item = to_item([user("<boxes> <points>", images="a.png", boxes=(1, 2, 3, 4), points=Point(x=1, y=2))])
    assert (item.images, item.boxes[0].xyxy, item.points[0].xy) == ((FileImage("a.png"),), (1, 2, 3, 4), (1, 2))
    boxes = np.array([[1, 2, 3, 4], [5, 6, 7, 8]])
    item = to_item([user("<boxes> <boxes>", images=Image.new("RGB", (4, 4)), boxes=boxes)])
    assert [box.xyxy for box in item.boxes] == [(1, 2, 3, 4), (5, 6, 7, 8)]
    assert len(to_item([user("<boxes>", images="a.png", boxes=[boxes])]).boxes) == 2


def test_to_item_says_which_image_the_answer_is_about() -> None:
    item = to_item([user("Compare.", images=["a.png", "b.png"])], answer_image=1)
    assert (item.answer_image, item.turns[0].text) == (1, "<image><image>\nCompare.")


def test_to_item_carries_a_system_message() -> None:
    item = to_item([Message(role="system", text="Be brief."), user("Hi")])
    assert (item.system, len(item.turns)) == ("Be brief.", 1)


BOX = (1, 2, 3, 4)


@pytest.mark.parametrize(
    ("messages", "error"),
    [
        ([user(" ")], "question: text: expected a text with a word, found ' '"),
        ([user("a\udcff")], "question: text: expected a text, found half a character"),
        ([Message(role="system", text="\udcff"), user("a")], "question: messages[0].text: expected a text, found half"),
        ([user("What is in <boxes>?", images=["a"])], "expected a box for each of its 1 <boxes>, found 0"),
        ([user("What?", images=["a"], boxes=[BOX])], "expected a box for each of its 0 <boxes>, found 1"),
        ([user("<points>", images=["a"])], "expected a point for each of its 1 <points>, found 0"),
        ([user("my <image> tag")], "images: expected an image for each of its 1 <image>, found 0"),
        ([user("<image>?", images=["a", "b"])], "expected an image for each of its 1 <image>, found 2"),
        ([user("<boxes>", images=["a"], boxes=[(1, 2, 3)])], "boxes[0]: expected 4 numbers, found "),
        ([user("<boxes>", images=["a"], boxes=["x"])], "boxes[0]: expected numbers, or a list of regions, found "),
        ([user("<boxes>", images=["a"], boxes=[[]])], "boxes[0]: expected numbers, or a list of regions"),
        ([user("<boxes>", images=["a"], boxes=[(3, 2, 1, 4)])], "boxes[0]: expected x1 <= x2"),
        ([user("<boxes>", boxes=[BOX])], "expected an image of the record, which has 0"),
        ([user("hi"), user("ho")], "messages[1].role: expected 'assistant' (user and assistant take turns"),
        ([user("hi"), assistant("ho")], "messages[1].role: expected 'user' in the last message"),
        ([assistant("ho")], "role: expected 'user' (user and"),
        ([user("hi"), Message(role="system", text="a"), user("a")], "messages[1].role: expected 'assistant'"),
        ([Message(role="system", text="see <image>"), user("a")], "messages[0]: expected words alone"),
        ([Message(role="system", text="a")], "messages: expected a question, found none"),
        ([], "messages: expected a question, found none"),
        ([user("hi", images=[3])], "images[0]: expected a path, a URL or a PIL image"),
        ([user("a"), assistant("b"), user("<image>")], "messages[2].images: expected an image for each of its 1"),
    ],
)
def test_to_item_names_what_is_wrong(messages: list[Message], error: str) -> None:
    with pytest.raises(DataError, match=re.escape(error)) as raised:
        to_item(messages)
    assert str(raised.value).startswith("question: ")


def test_as_messages_is_the_inverse_of_to_item() -> None:
    item = to_item(
        [
            Message(role="system", text="Be brief."),
            user("What is <boxes> at <points>?", images=["a.png"], boxes=[[BOX, (5, 5, 6, 6)]], points=[(1, 1)]),
            assistant("A cat <boxes>.", boxes=[BOX]),
            user("And <image>", images=["b.png"], answer_image=0),
        ]
    )
    assert to_item(as_messages(item)) == item


def test_record_of_is_the_dataset_s_format(tmp_path: Path) -> None:
    item = to_item(
        [
            user(
                "<boxes> at <points>?", images=["a.png", "b.png"], boxes=[[BOX, BOX]], points=[Point(x=1, y=1, image=1)]
            )
        ],
        answer_image=1,
    )
    record = json.loads(json.dumps(record_of(item, {ref: str(ref.path) for ref in item.images})))  # type: ignore[attr-defined]
    assert read_item(record, key="question") == item
    with_system = to_item([Message(role="system", text="Be brief."), user("Hi")])
    assert read_item(record_of(with_system, {}), key="question") == with_system
