from __future__ import annotations

import math
import pickle
from dataclasses import FrozenInstanceError, replace
from typing import Any

import pytest
from PIL import Image

from mllm.errors import DataError
from mllm.images import MemoryImage
from mllm.records import read_item
from mllm.types import Box, GroundTruth, Item, Point, Prediction, Turn


def test_boxes_are_equal_whatever_their_labels() -> None:
    assert Box(x1=0, y1=0, x2=1, y2=1, label="man") == Box(x1=0, y1=0, x2=1, y2=1)


def pair(question: str, answer: str, *, image: int | None = None, **groups: Any) -> list[dict[str, Any]]:
    """A round about two images; `asked` and `said` are its groups of boxes, of which 0 and 1 lie on image 0, 2 on 1."""
    turn = {"from": "human", "value": question, "boxes_seq": groups.get("asked", []), "image": image}
    return [turn, {"from": "gpt", "value": answer, "boxes_seq": groups.get("said", [])}]


def about_two(*turns: dict[str, Any]) -> Item:
    record = {
        "images": [Image.new("RGB", (8, 8)), Image.new("RGB", (9, 9))],
        "target": {"boxes": [[0, 0, 1, 1], [0, 0, 2, 2], [0, 0, 3, 3]], "boxes_image": [0, 0, 1]},
        "conversations": list(turns),
    }
    return read_item(record, key="a:1")


@pytest.mark.parametrize(
    ("turns", "expected"),
    [
        # nothing says it: the first
        (pair("<image><image> Where?", "<boxes>", said=[[0]]), 0),
        (pair("<image><image> Where?", "<boxes>", said=[[2]]), 0),
        # its field says it, whatever else does
        (pair("<image><image> Where?", "<boxes>", said=[[2]], image=1), 1),
        (pair("<image><image> And <boxes>?", "<boxes>", asked=[[0]], said=[[2]], image=1), 1),
        # its regions say it, if they lie on one
        (pair("<image><image> What is <boxes>?", "A dog.", asked=[[2]]), 1),
        (pair("<image><image> Is <boxes> there?", "<boxes>", asked=[[2]], said=[[0]]), 1),
        (pair("<image><image> <boxes>, <boxes>?", "<boxes>", asked=[[2], [0]], said=[[0]]), 0),
        # the one image that it shows says it
        ([*pair("<image> What?", "A dog."), *pair("<image> Where?", "<boxes>", said=[[2]])], 1),
        ([*pair("<image> What?", "A dog."), *pair("<image> Like <boxes>?", "<boxes>", asked=[[0]], said=[[0]])], 0),
        # the question before says it
        ([*pair("<image><image> The <boxes>?", "Yes.", asked=[[2]]), *pair("Where?", "<boxes>", said=[[2]])], 1),
        ([*pair("<image><image> Where?", "There.", image=1), *pair("How many?", "2"), *pair("Where?", "Here")], 1),
        ([*pair("<image> a?", "b"), *pair("<image> c?", "d"), *pair("Where?", "<boxes>", said=[[0]])], 1),
    ],
)
def test_the_question_says_which_image_an_answer_is_about(turns: list[dict[str, Any]], expected: int) -> None:
    item = about_two(*turns)
    assert item.answer_image == expected
    assert replace(item, truth=GroundTruth()).answer_image == expected
    assert replace(item, turns=item.prompt).answer_image == expected


def test_text_alone_has_no_image_to_be_about() -> None:
    item = read_item({"conversations": [{"from": "human", "value": "Hi"}]}, key="a:1")
    assert (item.answer_image, item.image_of(0)) == (0, None)


def test_a_group_may_lie_on_several_images_unless_its_question_names_one() -> None:
    item = about_two(*pair("<image><image> Where?", "<boxes>", said=[[0, 2]]))
    assert [item.boxes[index].image for index in item.turns[1].groups["<boxes>"][0]] == [0, 1]
    with pytest.raises(DataError, match="expected regions on image 1, which the question is about, found some on im"):
        about_two(*pair("<image><image> Where?", "<boxes>", said=[[2, 0]], image=1))


def test_an_answer_keeps_to_the_image_that_its_question_names() -> None:
    message = (
        r"a:1: conversations\[3\].boxes_seq\[1\]: expected regions on image 1, which the question is about, "
        "found some on image 0"
    )
    rounds = pair("<image><image> Where?", "<boxes>", said=[[0]], image=0)
    with pytest.raises(DataError, match=message):
        about_two(*rounds, *pair("And there?", "<boxes> <boxes>", said=[[2], [1]], image=1))
    about_two(*rounds, *pair("And there?", "<boxes>", said=[[2]], image=1))


def test_boxes_and_points_are_checked() -> None:
    with pytest.raises(DataError, match=r"expected x1 <= x2 and y1 <= y2 \(xyxy, not xywh\), found \[3, 0, 1, 1\]"):
        Box(x1=3, y1=0, x2=1, y2=1)
    with pytest.raises(DataError, match=r"expected four finite numbers, found \[0, 0, inf, 1\]"):
        Box(x1=0, y1=0, x2=math.inf, y2=1)
    with pytest.raises(DataError, match=r"expected two finite numbers, found \[nan, 1\]"):
        Point(x=math.nan, y=1)
    assert Box(x1=1, y1=1, x2=1, y2=1).xyxy == (1, 1, 1, 1)


def test_items_are_frozen_and_travel_to_workers() -> None:
    turns = pair("<image> Where?", "<boxes>", said=[[0]])
    item = read_item({"image": "a.jpg", "target": {"boxes": [[0, 0, 1, 1]]}, "conversations": turns}, key="a:1")
    assert pickle.loads(pickle.dumps(item)) == item  # noqa: S301, our own bytes
    with pytest.raises(FrozenInstanceError):
        item.key = "b"  # pyright: ignore[reportAttributeAccessIssue]


def test_an_image_in_memory_equals_only_itself() -> None:
    image = Image.new("RGB", (4, 4))
    one = MemoryImage(image)
    assert one == one
    assert one != MemoryImage(image)
    assert len({one, one, MemoryImage(image)}) == 2


def test_an_answer_keeps_what_its_item_says_of_itself() -> None:
    turns = (Turn(role="human", text="Where is it?"),)
    truth = GroundTruth(texts=("there",))
    item = Item(key="a:1", turns=turns, truth=truth, group={"size": "small"}, expression="it", demonstrations=("b:2",))
    answer = Prediction.of(item, 3, "here")
    assert (answer.key, answer.index, answer.text) == ("a:1", 3, "here")
    assert (answer.truth, answer.group, answer.expression) == (truth, {"size": "small"}, "it")
    assert answer.demonstrations == ("b:2",)
