from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from mllm.errors import ConfigError, DataError
from mllm.registry import DATASETS
from mllm.types import Item

LINE: dict[str, Any] = {
    "img_path": "1000.jpg",
    "boxes": [[1, 2, 30, 40], [5, 6, 20, 22], [7, 7, 9, 9]],
    "question": "What is <ph_st>the man<ph_ed> holding?",
    "question_boxes_seq": [[0]],
    "answer": "A ball.",
    "cot_with_ans": "<ph_st>The man<ph_ed> holds <ph_st>two {balls}<ph_ed>. So a ball.",
    "answer_boxes_seq": [[0], [1, 2]],
}


@pytest.fixture
def read(jsonl: Callable[..., str], pool: Callable[[Sequence[Any]], str]) -> Callable[..., Item]:
    def item(version: str = "bc", **changes: Any) -> Item:
        cfg = {"type": "ReferentialDialogue", "filename": jsonl({**LINE, **changes}), "image_folder": "flickr30k"}
        return DATASETS.make({**cfg, "questions": pool(["<image>\n<question> Why?"]), "version": version})[0]

    return item


@pytest.mark.parametrize(
    ("version", "answer", "groups"),
    [
        ("a", "A ball.", ()),
        ("c", "The man holds two {balls}. So a ball.", ()),
        ("bc", "The man<boxes> holds two {balls}<boxes>. So a ball.", ((0,), (1, 2))),
    ],
)
def test_versions(read: Callable[..., Item], version: str, answer: str, groups: Any) -> None:
    question, reply = read(version).turns
    assert question.text == "<image>\nWhat is the man<boxes> holding? Why?"
    assert question.boxes_seq == ((0,),)
    assert (reply.text, reply.boxes_seq) == (answer, groups)


def test_faults(read: Callable[..., Item]) -> None:
    with pytest.raises(
        DataError,
        match=r"lines.jsonl:1: question: expected the same number of each, found 1 <ph_st>, 1 <ph_ed>, 0 group",
    ):
        read(question_boxes_seq=[])
    with pytest.raises(
        DataError,
        match=r"expected the same number of each, found 2 <ph_st>, 2 <ph_ed>, 1 group\(s\) in answer_boxes_seq",
    ):
        read(answer_boxes_seq=[[0]])
    with pytest.raises(ConfigError, match=r"'ReferentialDialogue': version: expected one of .*, found str 'b'"):
        read("b")
