from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from mllm.dataset.sets.caption import Caption, GroundedCaption
from mllm.errors import ConfigError, DataError
from mllm.images import FileImage
from mllm.registry import DATASETS

GROUNDED = {
    "image_id": 36979,
    "sentence": "<ph_st>Two {men}<ph_ed> hold <ph_st>a cup<ph_ed> .",
    "boxes": [[0, 0, 9, 9], [1, 1, 2, 2], [3, 3, 4, 4]],
    "boxes_seq": [[0, 2], [1]],
}


@pytest.fixture
def questions(pool: Callable[[Sequence[Any]], str]) -> str:
    return pool(["<image>\nDescribe.", "<image>\nWhat is it?"])


def test_caption(jsonl: Callable[..., str], questions: str) -> None:
    item = Caption(filename=jsonl({"img_path": "a.jpg", "caption": "A {cat}."}), questions=questions)[0]
    assert [turn.text for turn in item.turns] == ["<image>\nDescribe.", "A {cat}."]
    assert item.truth.texts == ("A {cat}.",)


def test_several_captions(jsonl: Callable[..., str], questions: str) -> None:
    captions = ["A cat.", "An animal.", "A pet."]
    dataset = Caption(filename=jsonl({"img_path": "a.jpg", "caption": captions}), questions=questions)
    assert dataset[0].turns[1].text == "A cat."
    assert dataset[0].truth.texts == tuple(captions)
    answers: set[str] = set()
    for epoch in range(30):
        dataset.set_epoch(epoch)
        answers.add(dataset[0].turns[1].text)
    assert answers == set(captions)


@pytest.mark.parametrize(
    ("caption", "message"),
    [
        ([], "caption: expected a text or a list of texts, found none"),
        (["a", 1], "caption[1]: expected a text, found int '1'"),
        (5, "caption: expected a text, found int '5'"),
        ("<image> of a cat", "caption: expected a text without the reserved <image>, found '<image> of a cat'"),
    ],
)
def test_bad_captions(jsonl: Callable[..., str], questions: str, caption: Any, message: str) -> None:
    path = jsonl({"img_path": "a.jpg", "caption": caption})
    with pytest.raises(DataError) as caught:
        Caption(filename=path, questions=questions)[0]
    assert str(caught.value) == f"{path}:1: {message}"


def test_grounded_caption(jsonl: Callable[..., str], questions: str) -> None:
    item = GroundedCaption(filename=jsonl(GROUNDED), questions=questions, image_folder="flickr")[0]
    assert item.images == (FileImage("flickr/36979.jpg"),)
    assert item.turns[1].text == "Two {men}<boxes> hold a cup<boxes> ."
    assert item.turns[1].boxes_seq == ((0, 2), (1,))
    assert [box.x1 for box in item.truth.boxes] == [0, 3, 1]


def test_a_phrase_without_a_box_stays_as_words(
    jsonl: Callable[..., str], questions: str, pool: Callable[[Sequence[Any]], str]
) -> None:
    path = jsonl({**GROUNDED, "boxes_seq": [[], [1]]})
    item = GroundedCaption(filename=path, questions=questions)[0]
    assert (item.turns[1].text, item.turns[1].boxes_seq) == ("Two {men} hold a cup<boxes> .", ((1,),))
    assert [box.x1 for box in item.truth.boxes] == [1]
    phrases = DATASETS.make({"type": "GroundedPhrase"}, filename=path, questions=pool(["<image>\n<objs>?"]))
    for epoch in (None, 0, 1, 2):
        phrases.set_epoch(epoch)
        assert [(turn.text, turn.boxes_seq) for turn in phrases[0].turns] == [
            ("<image>\n<boxes>?", ((1,),)),
            ("a cup", ()),
        ]


def test_the_name_of_the_image(jsonl: Callable[..., str], questions: str) -> None:
    path = jsonl({**GROUNDED, "image_id": "{0}"})
    item = GroundedCaption(filename=path, questions=questions, image_name="COCO_{}.png")[0]
    assert item.images == (FileImage("COCO_{0}.png"),)
    with pytest.raises(ConfigError) as caught:
        DATASETS.make(dict(type="GroundedCaption", filename=path, questions=questions, image_name="{}{}"))
    said = "image_name: expected a text with {} or {:012} in it once, found str '{}{}'"
    assert str(caught.value) == f"dataset 'GroundedCaption': {said}"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"boxes_seq": [[0]]},
            "sentence: expected the same number of each, found 2 <ph_st>, 2 <ph_ed>, 1 group(s) in boxes_seq",
        ),
        (
            {"sentence": "a<ph_ed> <ph_st>b<ph_ed> <ph_ed>"},
            "sentence: expected the same number of each, found 1 <ph_st>, 3 <ph_ed>, 2 group(s) in boxes_seq",
        ),
        (
            {"boxes_seq": [[0], [3]]},
            "conversations[1].boxes_seq[1]: expected an index from 0 to 2 (the target holds 3), found 3",
        ),
        ({"sentence": None}, "sentence: expected a text, found nothing"),
    ],
)
def test_bad_grounded_captions(jsonl: Callable[..., str], questions: str, change: dict[str, Any], message: str) -> None:
    path = jsonl({**GROUNDED, **change})
    with pytest.raises(DataError) as caught:
        GroundedCaption(filename=path, questions=questions)[0]
    assert str(caught.value) == f"{path}:1: {message}"


def test_grounded_phrase(jsonl: Callable[..., str], pool: Callable[[Sequence[Any]], str]) -> None:
    dataset = DATASETS.make({"type": "GroundedPhrase"}, filename=jsonl(GROUNDED), questions=pool(["<image>\n<objs>?"]))
    item = dataset[0]
    assert [(turn.text, turn.boxes_seq) for turn in item.turns] == [("<image>\n<boxes>?", ((0, 2),)), ("Two {men}", ())]
    said: set[str] = set()
    for epoch in range(20):
        dataset.set_epoch(epoch)
        said.add(dataset[0].turns[1].text)
    assert said == {"Two {men}", "a cup"}
    plain = {**GROUNDED, "sentence": "Two men.", "boxes": [], "boxes_seq": []}
    with pytest.raises(
        DataError, match="sentence: expected a phrase with a box between <ph_st> and <ph_ed>, found none"
    ):
        DATASETS.make({"type": "GroundedPhrase"}, filename=jsonl(plain), questions=pool(["<image>\n<objs>?"]))[0]
