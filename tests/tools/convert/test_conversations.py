"""Conversations in several layouts, read by Instruct and TextOnly."""

from __future__ import annotations

from typing import Any

import pytest

from tests.tools.convert.layouts import IMAGE_DATA, LLAVA, LRV, SVIT_ROLES, Items, Run, Save, talk


def test_llava(run: Run, save: Save, items: Items) -> None:
    said = LLAVA["conversations"]
    records: list[dict[str, Any]] = [
        LLAVA,
        {"id": "a", "conversations": talk("Hi.", "Hello.")},
        {**LLAVA, "conversations": talk("What is it?", "A bus.", "Red?", "Yes.")},
        {**LLAVA, "conversations": talk("<image>\n<image>", "A bus.")},
        {"id": "b", "conversations": said},
        {**LLAVA, "conversations": talk("What?", "An <image>.")},
        {**LLAVA, "conversations": talk("<image>", " ")},
        {**LLAVA, "conversations": talk("<image>", "A bus.")},
    ]
    shown = run("llava", save("llava_instruct_150k.json", records))
    first, text, rounds, caption = items("llava_instruct_150k.jsonl", "Instruct", image_folder="coco")
    assert first.turns[0].text == "What is it?\n<image>"
    assert str(first.images[0]) == "FileImage(path='coco/000000033471.jpg')"
    assert text.images == ()
    assert rounds.turns[0].text == "<image>\nWhat is it?"
    assert caption.turns[0].text == "<image>"
    for reason in (
        "1  left out: conversations with an empty turn",
        "1  left out: conversations with other than 1 <image>",
        "1  left out: conversations with other than 0 <image>",
        "1  left out: conversations with <image>, <boxes> or <points> among their words",
    ):
        assert reason in shown
    several = run("llava", save("x.json", [{**LLAVA, "image": ["a.jpg", "b.jpg"]}]), status=1)
    assert "x.json[0]: image: expected a text, found list" in several


def test_sharegpt(run: Run, save: Save, items: Items) -> None:
    turns = talk("Who?", "A man.", roles=("user", "chatgpt"))
    talks: list[Any] = [
        [{"from": "system", "value": "Be kind."}, *turns],
        [turns[1], *turns],
        [*turns, turns[1]],
        [{"from": "bard", "value": "x"}],
        talk("Who?", ""),
        talk("<image>?", "No."),
        [*turns, turns[0]],
        [],
    ]
    shown = run("sharegpt", save("sg.json", [{"id": "a", "conversations": talk} for talk in talks]))
    kind, later = items("sharegpt_sg.jsonl", "Instruct")
    assert kind.turns[0].text == "Be kind.\n\nWho?"
    assert kind.images == ()
    assert [turn.text for turn in later.turns] == ["Who?", "A man."]
    for reason in (
        "answers before the first question",
        "conversations whose turns do not alternate",
        "conversations with a turn from 'bard'",
        "conversations with an empty turn",
        "conversations with other than 0 <image>",
        "conversations that end with a question",
        "conversations without a turn",
    ):
        assert f"1  left out: {reason}" in shown


def test_lrv(run: Run, save: Save, items: Items) -> None:
    lost = {**LRV, "image_id": "3"}
    path = save("filter_cap1.json", [LRV, lost])
    shown = run("lrv", path, "--images", save("image_data.json", IMAGE_DATA))
    (item,) = items("lrv_filter_cap1.jsonl", "Instruct", image_folder="vg")
    assert [turn.text for turn in item.turns] == ["<image>\nIs it wet?", "Yes."]
    assert str(item.images[0]) == "FileImage(path='vg/VG_100K/2.jpg')"
    assert "1  left out: records of an image that is not in image_data.json" in shown
    run("lrv", path)
    assert [str(item.images[0]) for item in items("lrv_filter_cap1.jsonl", "Instruct")] == [
        f"FileImage(path='{number}.jpg')" for number in (2, 3)
    ]
    run("lrv", save("chart_release_update.json", [{**LRV, "image_id": "chart_1.png"}]))
    (chart,) = items("lrv_chart_release_update.jsonl", "Instruct")
    assert str(chart.images[0]) == "FileImage(path='chart_1.png')"


def test_svit(run: Run, items: Items) -> None:
    shown = run("svit")
    (item,) = items("svit_conversation.jsonl", "Instruct", image_folder="vg")
    assert [turn.text for turn in item.turns] == ["<image>\nWho?", "A man.", "Why?", "He can."]
    assert str(item.images[0]) == "FileImage(path='vg/VG_100K/2.jpg')"
    assert "1  left out: conversations that end with a question" in shown


def refer(save: Save, *answers: str) -> str:
    content = [
        {"content": talk("Where is the <st>man<ed> [0.1, 0.2, 0.3, 0.4]?", answer, roles=SVIT_ROLES)}
        for answer in answers
    ]
    return save("referring_qa.json", [{"image_id": 2, "conversations": content}])


def test_what_svit_points_at_is_boxes(run: Run, save: Save, items: Items) -> None:
    path = refer(save, "Beside <st>the dogs<ed> [0.5, 0.2, 0.7, 0.4], [0.1, 0.2, 0.3, 0.4]; <st>he<ed> is.")
    images = save("image_data.json", IMAGE_DATA)
    wordy = run("svit", path, "--images", images, status=1)
    assert "1 conversations with a box that is not four fractions after <st> <ed>" in wordy
    path = refer(save, "Beside <st>the dogs<ed> [0.5, 0.2, 0.7, 0.4], [0.1, 0.2, 0.3, 0.4].")
    run("svit", path, "--images", images)
    (item,) = items("svit_referring_qa.jsonl", "Instruct")
    assert item.turns[0].text == "<image>\nWhere is the man<boxes>?"
    assert item.turns[1].text == "Beside the dogs<boxes>."
    assert [turn.boxes_seq for turn in item.turns] == [((0,),), ((1, 0),)]
    assert [box.xyxy for box in item.boxes] == [(40, 60, 120, 120), (200, 60, 280, 120)]  # of 400 x 300 pixels


@pytest.mark.parametrize(
    "box", ["[0.1, 0.2, 0.3]", "[0.3, 0.2, 0.1, 0.4]", "[10, 20, 30, 40]", "[a, b, c, d]", "[nan, 0.1, 0.2, 0.3]"]
)
def test_boxes_of_svit_that_are_none(run: Run, save: Save, box: str) -> None:
    images = save("image_data.json", IMAGE_DATA)
    for answer in (f"<st>It<ed> {box}.", "It is at [0.1, 0.2, 0.3, 0.4]."):
        shown = run("svit", refer(save, answer), "--images", images, status=1)
        assert "found none (1 conversations with a box that is not four fractions after <st> <ed>)" in shown


def test_alpaca(run: Run, save: Save, items: Items) -> None:
    records = [
        {"instruction": "Add.", "input": "1, 2", "output": "3"},
        {"instruction": "Greet.", "input": "", "output": "Hi."},
        {"instruction": "Greet.", "output": ""},
        {"instruction": " ", "output": "Hi."},
        {"instruction": "What is <image>?", "output": "A tag."},
    ]
    shown = run("alpaca", save("alpaca_data.json", records))
    assert [item.turns[0].text for item in items("alpaca_data.jsonl", "TextOnly")] == ["Add.\n1, 2", "Greet."]
    for reason in (
        "without an output",
        "without an instruction",
        "with <image>, <boxes> or <points> among their words",
    ):
        assert f"1  left out: records {reason}" in shown
