from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mllm.dataset import multiturn
from mllm.dataset.multiturn import MultiTurn, SamePicture, join_rounds, merge_conversation
from mllm.errors import ConfigError, DataError
from mllm.images import FileImage
from mllm.records import read_item
from mllm.registry import DATASETS
from mllm.types import Item


@pytest.fixture
def rec(jsonl: Callable[..., str], pool: Callable[[Sequence[Any]], str]) -> Callable[..., dict[str, Any]]:
    """The config of a REC dataset: one line per image name; the k-th line has the expression `e<k>`, x1 = k."""

    def cfg(*images: Any) -> dict[str, Any]:
        lines = [{"img_path": image, "expression": f"e{k}", "bbox": [k, 0, 99, 9]} for k, image in enumerate(images)]
        return {"type": "REC", "filename": jsonl(*lines), "questions": pool(["<image>\n<expr>?"]), "answer": "<boxes>"}

    return cfg


def said(item: Item) -> list[tuple[str, float]]:
    """Each question with the left edge of the box that answers it."""
    return [
        (question.text, item.boxes[answer.boxes_seq[0][0]].x1)
        for question, answer in zip(item.turns[::2], item.turns[1::2], strict=True)
    ]


def test_lines_of_one_image_become_one_conversation(rec: Callable[..., dict[str, Any]]) -> None:
    dataset = SamePicture(dataset=rec("a", "b", "a", "a", "b"), max_turns=2)
    assert [said(dataset[index]) for index in range(len(dataset))] == [
        [("<image>\ne0?", 0), ("e2?", 2)],
        [("<image>\ne3?", 3)],
        [("<image>\ne1?", 1), ("e4?", 4)],
    ]
    assert dataset[0].key.endswith("lines.jsonl:1 and 1 more")
    assert dataset[0].truth.boxes[0].x1 == 2
    assert len(dataset[0].images) == 1
    with pytest.raises(IndexError, match="SamePicture: item 3 of 3"):
        dataset[3]


def test_a_question_keeps_the_image_that_it_names_in_a_longer_row() -> None:
    """Each item has two images; of the second its question says which one it is about."""
    turns = [{"from": "human", "value": "<image><image> Where?", "image": 1}, {"from": "gpt", "value": "There."}]
    record = {"images": ["a.jpg", "b.jpg"], "conversations": turns}
    items = [read_item(record, key=key) for key in ("a", "b")]
    whole = join_rounds(items)
    assert [turn.image for turn in whole.turns] == [1, None, 3, None]
    assert whole.image_of(2) == 3
    assert whole.with_extra_rounds(0).turns == items[0].turns


def test_an_image_may_be_called_by_a_number(jsonl: Callable[..., str], pool: Callable[[Sequence[Any]], str]) -> None:
    lines = [
        {
            "image_id": image,
            "question": f"q{k}",
            "choices": ["a", "b"],
            "direct_answers": [f"a{k}"],
            "correct_choice_idx": 0,
        }
        for k, image in enumerate([9, 7, 9])
    ]
    questions = {
        "type": "AOKVQA",
        "task": "direct",
        "filename": jsonl(*lines),
        "questions": pool(["<image>\n<question>"]),
    }
    dataset = SamePicture(dataset=questions, picture="image_id")
    assert [[turn.text for turn in dataset[n].turns[::2]] for n in range(2)] == [["<image>\nq0", "q2"], ["<image>\nq1"]]


def test_lines_that_a_dataset_leaves_out_are_not_grouped(
    jsonl: Callable[..., str], pool: Callable[[Sequence[Any]], str]
) -> None:
    lines = [
        {
            "image_id": image,
            "question": f"q{k}",
            "choices": ["a", "b"],
            "direct_answers": ["a"],
            "correct_choice_idx": 0,
            "difficult_direct_answer": k in (0, 3),
        }
        for k, image in enumerate([9, 7, 9, 8, 7, 9])
    ]
    questions = {
        "type": "AOKVQA",
        "task": "direct",
        "filename": jsonl(*lines),
        "questions": pool(["<image>\n<question>"]),
    }
    dataset = SamePicture(dataset=questions, picture="image_id")
    asked = [[turn.text for turn in dataset[n].turns[::2]] for n in range(len(dataset))]
    assert asked == [["<image>\nq2", "q5"], ["<image>\nq1", "q4"]]


def test_images_are_numbered_once_for_a_file(
    rec: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = rec("a", "b", "a")
    first = SamePicture(dataset=config)
    lines = first.dataset.lines
    with monkeypatch.context() as patch:
        patch.setattr(multiturn, "_numbered", None)
        assert len(SamePicture(dataset=config)) == 2
    Path(lines.path).write_text(Path(lines.path).read_text().replace('"a"', '"other"', 1))
    assert len(SamePicture(dataset=config)) == 3


def test_each_epoch_asks_every_question_once_in_another_order(rec: Callable[..., dict[str, Any]]) -> None:
    dataset = SamePicture(dataset=rec(*"aaaaaaabb"), max_turns=3)
    orders: set[tuple[float, ...]] = set()
    for epoch in range(5):
        dataset.set_epoch(epoch)
        asked = [x1 for index in range(len(dataset)) for _, x1 in said(dataset[index])]
        assert sorted(asked) == list(range(9))
        orders.add(tuple(asked))
    assert len(orders) == 5


def test_a_pickled_copy_is_the_same(rec: Callable[..., dict[str, Any]]) -> None:
    dataset = DATASETS.make({"type": "SamePicture", "dataset": rec(*"abab")})
    dataset.set_epoch(1)
    copy = pickle.loads(pickle.dumps(dataset))  # noqa: S301
    assert [copy[n] for n in range(2)] == [dataset[n] for n in range(2)]


def test_what_it_cannot_group(rec: Callable[..., dict[str, Any]]) -> None:
    with pytest.raises(ConfigError, match="dataset: expected one that reads lines, found Scenes"):
        SamePicture(dataset={"type": "Scenes", "count": 2})
    with pytest.raises(ConfigError, match="max_turns: expected a whole number of at least 1, found int '0'"):
        DATASETS.make({"type": "SamePicture", "dataset": rec("a"), "max_turns": 0})
    with pytest.raises(DataError, match=r"lines\.jsonl:2: img_path: expected a whole number or a text, found list"):
        SamePicture(dataset=rec("a", [7]))
    with pytest.raises(DataError, match=r"lines\.jsonl:1: image: expected a whole number or a text, found nothing"):
        SamePicture(dataset=rec("a"), picture="image")


def item(image: str, *turns: dict[str, Any], points: Sequence[Any] = ()) -> Item:
    record = {"image": image, "conversations": list(turns), "target": {"points": list(points)}}
    return read_item(record, key=image)


def test_points_move_with_their_item() -> None:
    question = {"from": "human", "value": "In <image>, is <points> red?", "points_seq": [[0]]}
    answer = {"from": "gpt", "value": "Yes."}
    both = merge_conversation(
        [item("a", question, answer, points=[[1, 2]]), item("a", question, answer, points=[[3, 4]])]
    )
    assert both.turns[2].text == "In the image, is <points> red?"
    assert both.points[both.turns[2].points_seq[0][0]].xy == (3, 4)


def test_items_that_cannot_be_merged() -> None:
    question, answer = {"from": "human", "value": "<image>"}, {"from": "gpt", "value": "Yes."}
    with pytest.raises(DataError, match="b: expected the image of a, found another"):
        merge_conversation([item("a", question, answer), item("b", question, answer)])
    with pytest.raises(DataError, match="a: expected an answer as the last turn, found a question"):
        merge_conversation([item("a", question)])


@pytest.fixture
def mixed(jsonl: Callable[..., str]) -> dict[str, Any]:
    """Six items of no, one or two images: item n is a<n>, with its own images n-0, n-1."""
    lines = [
        {"input": "".join(f"<img_path>{n}-{k}<img_path>" for k in range(n % 3)) + f"q{n}", "output": f"a{n}"}
        for n in range(6)
    ]
    return {"type": "InstructFlamingo", "filename": jsonl(*lines)}


def rounds(item: Item) -> list[str]:
    return [turn.text for turn in item.turns[1::2]]


def test_rows_are_filled_with_drawn_items(mixed: dict[str, Any]) -> None:
    dataset = DATASETS.make({"type": "MultiTurn", "dataset": mixed, "draws": 4})
    assert len(dataset) == 6
    assert [(rounds(dataset[n]), dataset[n].extra_rounds) for n in range(6)] == [([f"a{n}"], 0) for n in range(6)]
    epochs: list[list[list[str]]] = []
    for epoch in (0, 1, 0):
        dataset.set_epoch(epoch)
        items = [dataset[n] for n in range(6)]
        assert all(item.extra_rounds == 4 and len(item.turns) == 10 for item in items)
        for n, item in enumerate(items):
            said_by_item = [f"{k}-{i}" for k in (int(text[1:]) for text in rounds(item)) for i in range(k % 3)]
            assert item.images == tuple(map(FileImage, said_by_item))
            assert rounds(item)[0] == f"a{n}"
        epochs.append([rounds(item) for item in items])
    assert epochs[0] == epochs[2] != epochs[1]
    assert len({text for row in epochs[0] for text in row[1:]}) == 6


def test_no_more_images_than_asked_for(mixed: dict[str, Any]) -> None:
    dataset = MultiTurn(dataset=mixed, draws=30, max_images=3)
    counts: set[int] = set()
    for epoch in range(4):
        dataset.set_epoch(epoch)
        counts |= {len(dataset[n].images) for n in range(6)}
    assert counts == {2, 3}


def test_regions_move_with_their_images() -> None:
    asked = {"from": "human", "value": "<image>\nWhere is <points>?", "points_seq": [[0]]}
    answered = {"from": "gpt", "value": "<boxes>", "boxes_seq": [[0]]}
    target = {"boxes": [[1, 2, 3, 4]], "points": [[1, 2]]}
    items = [
        read_item({"image": name, "conversations": [asked, answered], "target": target}, key=name) for name in "abc"
    ]
    row = join_rounds(items)
    assert [(box.image, point.image) for box, point in zip(row.boxes, row.points, strict=True)] == [
        (n, n) for n in range(3)
    ]
    assert [turn.boxes_seq or turn.points_seq for turn in row.turns] == [((n,),) for n in (0, 0, 1, 1, 2, 2)]
    assert row.truth == items[0].truth
    assert row.with_extra_rounds(1) == replace(join_rounds(items[:2]), key=row.key)
    assert row.with_extra_rounds(0) == replace(items[0], key=row.key)


def test_what_it_cannot_fill() -> None:
    for arguments, message in (
        ({"draws": 0}, "draws: expected a whole number of at least 1, found int '0'"),
        ({"draws": 1, "max_images": 0}, "max_images: expected a whole number of at least 1 or None, found int '0'"),
    ):
        with pytest.raises(ConfigError, match=f"dataset 'MultiTurn': {message}"):
            DATASETS.make({"type": "MultiTurn", "dataset": {"type": "Scenes", "count": 2}, **arguments})
    question = read_item({"conversations": [{"from": "human", "value": "?"}]}, key="a")
    with pytest.raises(DataError, match="a: expected an answer as the last turn, found a question"):
        join_rounds([question, question])


def test_rounds_of_one_conversation_have_one_system_message() -> None:
    def item(key: str, system: str | None) -> Item:
        turns = [{"from": "human", "value": f"{key}?"}, {"from": "gpt", "value": f"{key}!"}]
        return read_item({"system": system, "conversations": turns}, key=key)

    class Three(list[Item]):
        def set_epoch(self, epoch: int | None) -> None:
            pass

    a, b, other = item("a", "Be short."), item("b", "Be short."), item("c", "Sing.")
    assert merge_conversation([a, b]).system == "Be short."
    with pytest.raises(
        DataError, match=r"c: system: expected that of the other rounds .*, str 'Be short.', found str 'Sing.'"
    ):
        merge_conversation([a, other])
    dataset = MultiTurn(dataset=Three([a, b, other, item("d", None)]), draws=20)
    dataset.set_epoch(0)
    filled = dataset[0]
    assert filled.system == "Be short."
    assert {turn.text for turn in filled.turns[::2]} == {"a?", "b?"}
