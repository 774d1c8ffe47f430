"""Conversations keep what was said, and go to files that can be trained on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from mllm.errors import ConfigError, DataError
from mllm.registry import DATASETS
from mllm.serve.chat_model import ChatModel, load
from mllm.serve.conversation import write_item
from mllm.serve.question import Message, to_item
from mllm.serve.reading import read_answer_text

SHOWN = Image.new("RGB", (32, 24), "red")


@pytest.fixture(scope="module")
def model(trained: Path) -> ChatModel:
    return load(trained, device="cpu")


def test_each_question_is_read_with_those_before(model: ChatModel, photo: Path, monkeypatch: Any) -> None:
    talk = model.conversation(system="Be brief.")
    first = talk.ask("Where is it?", [photo], max_new_tokens=6)
    assert first == model.chat(photo, "Where is it?", system="Be brief.", max_new_tokens=6)
    stream = talk.ask("And <boxes>?", boxes=[(0, 0, 9, 9)], stream=True, max_new_tokens=6)
    assert len(talk.messages) == 3
    second = stream.answer
    assert [message.role for message in talk.messages] == ["system", "user", "assistant", "user", "assistant"]
    assert second.item.turns[1].role == "gpt"
    assert second.item.prompt[0].text == "<image>\nWhere is it?"
    third = talk.ask("And this?", [SHOWN], max_new_tokens=6)
    assert (len(third.item.images), third.item.answer_image) == (2, 1)
    talk.undo()
    assert len(talk.messages) == 5
    assert talk.ask("And this?", [SHOWN], max_new_tokens=6).text == third.text


def test_regions_of_answers_are_said_again_as_they_were(model: ChatModel, photo: Path) -> None:
    """The history holds the tokens that the model wrote, which are none of a user's words."""
    written = "There <b_st><bin_1><bin_2><bin_8><bin_16><b_ed>."
    talk = model.conversation()
    asked = Message(role="user", text="Where is it?", images=[photo])
    talk.messages += [asked, read_answer_text(model.processor, to_item([asked]), written).message]
    item = talk.ask("Sure?", max_new_tokens=2).item
    prompt = model.processor.tokenizer.decode(model.processor.encode(item, 0, answer=False).input_ids)
    assert "There<b_st><bin_1><bin_2><bin_8><bin_16><b_ed>." in prompt.replace(" ", "")


def test_a_question_that_cannot_be_asked_leaves_the_conversation_as_it_was(model: ChatModel, photo: Path) -> None:
    talk = model.conversation()
    talk.ask("Where?", [photo], max_new_tokens=2)
    with pytest.raises(DataError, match=r"messages\[2\].boxes: expected a box for each of its 1 <boxes>"):
        talk.ask("In <boxes>?")
    with pytest.raises(ConfigError, match="temprature"):
        talk.ask("So?", temprature=1)
    with pytest.raises(DataError, match=r"gone\.png"):
        talk.ask("And here?", ["gone.png"])
    assert len(talk.messages) == 2


def test_undo_ends_at_the_beginning(model: ChatModel) -> None:
    talk = model.conversation(system="Be brief.")
    with pytest.raises(DataError, match="expected a question to take back, found none"):
        talk.undo()


def test_save_writes_a_line_that_is_loaded_and_trained_on(model: ChatModel, photo: Path, tmp_path: Path) -> None:
    talk = model.conversation()
    talk.ask("What is at <points>, in <boxes>?", [photo], points=[(3, 4)], boxes=[(0, 0, 9, 9)], max_new_tokens=4)
    talk.ask("And here?", [SHOWN], max_new_tokens=4)
    path = tmp_path / "talks" / "talk.jsonl"
    talk.save(path)
    again = model.conversation(path)
    assert [turn.text for turn in again.item.turns] == [turn.text for turn in talk.item.turns]
    assert (again.item.boxes, again.item.points) == (talk.item.boxes, talk.item.points)
    assert again.ask("So?", max_new_tokens=4).text == talk.ask("So?", max_new_tokens=4).text
    items = DATASETS.make({"type": "Instruct", "filename": str(path)})
    assert [image.size for image in items[0].images] == [image.size for image in again.item.images[:2]]
    assert model.processor.encode(items[0], 0).labels is not None


def test_write_item_appends_and_keeps_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "bad.jsonl"
    for text in ("a", "b"):
        video = [Image.new("RGB", (4, 4)), SHOWN]
        item = to_item([Message(role="user", text=text, images=[SHOWN, video])])
        write_item(item, path, append=True)
    records = [json.loads(line) for line in path.read_text().splitlines()]
    assert [record["conversations"][0]["value"] for record in records] == ["<image><image>\na", "<image><image>\nb"]
    names = [records[n]["images"] for n in (0, 1)]
    assert [Path(name).name for name in (names[1][0], *names[1][1])] == [
        "bad_2_1.png",
        "bad_2_2_1.png",
        "bad_2_2_2.png",
    ]
    assert all(Image.open(name).size == (32, 24) for name in (names[0][0], names[1][0]))


def test_a_conversation_that_is_none_is_named(model: ChatModel, tmp_path: Path) -> None:
    path = tmp_path / "talk.jsonl"
    path.write_text('{"conversations": [{"from": "cat", "value": "meow"}]}\n')
    with pytest.raises(DataError, match=r"talk.jsonl:1: conversations\[0\].from: expected 'human' or 'gpt'"):
        model.conversation(path)
    with pytest.raises(DataError, match="messages: expected a question, found none"):
        model.conversation().save(path)
