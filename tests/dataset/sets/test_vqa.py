from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from mllm.errors import ConfigError, DataError
from mllm.images import FileImage
from mllm.registry import DATASETS
from mllm.types import Item

# a question of VQAv2's train split, with its annotation as published (CC BY 4.0)
NET: dict[str, Any] = {
    "image_path": "COCO_train2014_000000458752.jpg",
    "question": "What is this {photo} taken looking through?",
    "annotation": {
        "question_type": "what is this",
        "multiple_choice_answer": "net",
        "answers": [
            {"answer": answer, "answer_confidence": "yes", "answer_id": number}
            for number, answer in enumerate(
                ["net", "net", "net", "netting", "net", "net", "mesh", "net", "net", "net"], 1
            )
        ],
    },
}
WHY_E = {
    "file_path": "a.jpg",
    "question": "Is it wet?",
    "explanation": ["It has rained", 0.8],
    "multiple_answers": "yes",
}
WHY_X = {
    "file_path": "a.jpg",
    "question": "Is it wet?",
    "justification": ["there are puddles", "people carry umbrellas."],
    "multiple_choice_answer": "yes",
}
POPE = {
    "question_id": 1,
    "image": "COCO_val2014_000000310196.jpg",
    "text": "Is there a snowboard in the image?",
    "label": "yes",
}


@pytest.fixture
def read(jsonl: Callable[..., str], pool: Callable[[Sequence[Any]], str]) -> Callable[..., Item]:
    """The Item of one line, by way of the registry."""

    def item(name: str, line: Any, epoch: int | None = None, **arguments: Any) -> Item:
        dataset = DATASETS.make(
            {"type": name, **arguments}, filename=jsonl(line), questions=pool(["<image>\n<question>"])
        )
        dataset.set_epoch(epoch)
        return dataset[0]

    return item


def test_vqav2(read: Callable[..., Item]) -> None:
    item = read("VQAv2", NET, image_folder="coco")
    assert item.images == (FileImage("coco/COCO_train2014_000000458752.jpg"),)
    assert [turn.text for turn in item.turns] == [
        "<image>\nWhat is this {photo} taken looking through?",
        "The answer is net.",
    ]
    assert len(item.truth.texts) == 10
    assert item.truth.texts[3] == "netting"
    assert read("VQAv2", NET, answer="<answer>").turns[1].text == "net"


def test_a_test_split_has_questions_alone(read: Callable[..., Item]) -> None:
    item = read("VQAv2", {name: value for name, value in NET.items() if name != "annotation"})
    assert [turn.role for turn in item.turns] == ["human"]
    assert item.truth.texts == ()


def test_vqa_e(read: Callable[..., Item]) -> None:
    item = read_reason(read, WHY_E, "vqa_e")
    assert item.turns[1].text == "It has rained. So the answer is yes."
    assert item.truth.texts == ("yes",)


def test_vqa_x_draws_a_justification(read: Callable[..., Item]) -> None:
    assert read_reason(read, WHY_X, "vqa_x").turns[1].text == "there are puddles. So the answer is yes."
    drawn = {read_reason(read, WHY_X, "vqa_x", epoch=epoch).turns[1].text for epoch in range(20)}
    assert drawn == {
        "there are puddles. So the answer is yes.",
        "people carry umbrellas. So the answer is yes.",
    }


def test_pope(read: Callable[..., Item]) -> None:
    item = read("POPE", POPE)
    assert [turn.text for turn in item.turns] == ["<image>\nIs there a snowboard in the image?", "The answer is yes."]
    assert item.truth.texts == ("yes",)
    assert item.group == {}


@pytest.mark.parametrize(
    ("name", "line", "group"),
    [
        ("coco_pope_adversarial.jsonl", {}, {"category": "adversarial"}),
        ("COCO_POPE_Popular.jsonl", {}, {"category": "popular"}),
        ("pope.jsonl", {"category": "random"}, {"category": "random"}),
        ("coco_pope_random.jsonl", {"category": "popular"}, {"category": "popular"}),
    ],
)
def test_pope_knows_its_category_by_the_line_or_the_file(
    jsonl: Callable[..., str], pool: Callable[[Sequence[Any]], str], name: str, line: Any, group: dict[str, str]
) -> None:
    path = jsonl({**POPE, **line}, name=name)
    dataset = DATASETS.make({"type": "POPE", "filename": path, "questions": pool(["<image>\n<question>"])})
    assert dataset[0].group == group


@pytest.mark.parametrize(
    ("kind", "line", "message"),
    [
        (
            "VQAv2",
            {**NET, "annotation": {"answers": []}},
            "annotation.multiple_choice_answer: expected a text, found no",
        ),
        (
            "VQAv2",
            {**NET, "annotation": {**NET["annotation"], "answers": [{"answer": "net"}, "net"]}},
            "annotation.answers[1]: expected an object, found str 'net'",
        ),
        (
            "VQAv2",
            {**NET, "annotation": {**NET["annotation"], "answers": [{"answer": 3}]}},
            "annotation.answers[0].answer: expected a text, found int '3'",
        ),
        ("VQAv2", {**NET, "question": ""}, "question: expected words, found ''"),
        (
            "VQAv2",
            {**NET, "question": "<image>?"},
            "question: expected a text without the reserved <image>, found '<image>?'",
        ),
        ("POPE", {**POPE, "label": "Yes"}, "label: expected yes or no, found str 'Yes'"),
    ],
)
def test_bad_lines(read: Callable[..., Item], kind: str, line: Any, message: str) -> None:
    with pytest.raises(DataError) as caught:
        read(kind, line)
    assert f"lines.jsonl:1: {message}" in str(caught.value)


def test_bad_reasons(read: Callable[..., Item]) -> None:
    with pytest.raises(DataError, match=r"lines\.jsonl:1: justification: expected a list of texts, found \[\]"):
        read_reason(read, {**WHY_X, "justification": []}, "vqa_x")
    with pytest.raises(ConfigError, match=r"kind: expected one of .*, found str 'vqax'; did you mean 'vqa_x'"):
        read_reason(read, WHY_X, "vqax")


@pytest.mark.parametrize("kind", ["VQAv2", "POPE"])
def test_the_text_of_an_answer(read: Callable[..., Item], kind: str) -> None:
    with pytest.raises(ConfigError, match="answer: expected a text with <answer> in it once, found str 'yes'"):
        read(kind, POPE, answer="yes")


def read_reason(read: Callable[..., Item], line: Any, kind: str, epoch: int | None = None) -> Item:
    return read("VQAReason", line, epoch, kind=kind)
