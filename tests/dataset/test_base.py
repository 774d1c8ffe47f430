from __future__ import annotations

import pickle
import random
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from mllm.dataset.base import Dataset, LineDataset, seeded_rng
from mllm.errors import DataError
from mllm.json_fields import field
from mllm.types import Box


class Dice(LineDataset):
    """Answers with what it drew."""

    def record(self, line: dict[str, Any], rng: random.Random | None) -> dict[str, Any]:
        return {
            "image": line["file"],
            "target": {"boxes": [line["box"]]},
            "conversations": [
                {"from": "human", "value": "<image>"},
                {"from": "gpt", "value": f"{rng.random() if rng else 'fixed'} <boxes>", "boxes_seq": [[0]]},
            ],
        }


LINE = {"file": "a.jpg", "box": [1, 2, 3, 4]}


def drawn(dataset: LineDataset, index: int, epoch: int | None) -> str:
    dataset.set_epoch(epoch)
    return dataset[index].turns[-1].text


def test_a_line_becomes_an_item(jsonl: Callable[..., str]) -> None:
    path = jsonl(LINE, LINE)
    dataset = Dice(filename=path, image_folder="photos")
    assert isinstance(dataset, Dataset)
    assert len(dataset) == 2
    assert dataset[1].key == f"{path}:2"
    assert dataset[1].boxes == (Box(x1=1, y1=2, x2=3, y2=4),)
    assert dataset[1].images[0].path == "photos/a.jpg"  # pyright: ignore[reportAttributeAccessIssue]


def test_the_group_of_a_line_reaches_its_item(jsonl: Callable[..., str]) -> None:
    dataset = Dice(filename=jsonl({**LINE, "group": {"split": "testA"}}, LINE))
    assert [dict(dataset[index].group) for index in (0, 1)] == [{"split": "testA"}, {}]


def test_the_group_of_a_line_stands_beside_that_of_its_dataset(jsonl: Callable[..., str]) -> None:
    class Thrown(Dice):
        def record(self, line: dict[str, Any], rng: random.Random | None) -> dict[str, Any]:
            return {**super().record(line, rng), "group": {"split": "val", "hand": "left"}}

    dataset = Thrown(filename=jsonl({**LINE, "group": {"split": "testA"}}, LINE))
    groups = [dict(dataset[index].group) for index in (0, 1)]
    assert groups == [{"split": "testA", "hand": "left"}, {"split": "val", "hand": "left"}]


def test_chance_follows_from_seed_epoch_and_index(jsonl: Callable[..., str]) -> None:
    path = jsonl(LINE, LINE)
    dataset, other = Dice(filename=path), Dice(filename=path, seed=1)
    assert dataset[0].turns[-1].text == drawn(dataset, 1, None) == "fixed <boxes>"
    texts = {drawn(dataset, index, epoch) for index in (0, 1) for epoch in (0, 1)}
    assert len(texts | {drawn(other, 0, 0)}) == 5
    assert {drawn(dataset, index, epoch) for index in (1, 0) for epoch in (1, 0)} == texts


def test_a_pickled_dataset_draws_the_same(jsonl: Callable[..., str]) -> None:
    dataset = Dice(filename=jsonl(LINE, LINE), seed=3)
    dataset.set_epoch(2)
    copy = pickle.loads(pickle.dumps(dataset))  # noqa: S301
    assert copy[1] == dataset[1]


def test_chance_is_the_same_in_every_process() -> None:
    code = "from mllm.dataset.base import seeded_rng; print(seeded_rng(1, 2, 3).random())"
    runs = {
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": hashed}, capture_output=True, text=True, check=True
        ).stdout.strip()
        for hashed in ("1", "2")
    }
    assert runs == {str(seeded_rng(1, 2, 3).random())}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ({"file": "a.jpg"}, "box: expected a value, found nothing (the record has file)"),
        ({}, "file: expected a value, found nothing (the record has no fields)"),
        ({**LINE, "box": [3, 2, 1, 4]}, "target.boxes[0]: expected x1 <= x2 and y1 <= y2"),
        ({**LINE, "box": [1, 2, 3]}, "target.boxes[0]: expected 4 numbers, found list '[1, 2, 3]'"),
    ],
)
def test_a_bad_line_says_where_and_what(jsonl: Callable[..., str], line: dict[str, Any], message: str) -> None:
    path = jsonl(LINE, line)
    with pytest.raises(DataError) as caught:
        Dice(filename=path)[1]
    assert str(caught.value).startswith(f"{path}:2: {message}")


def test_a_mistake_in_the_code_of_a_dataset_stays_visible(jsonl: Callable[..., str]) -> None:
    class Broken(LineDataset):
        def record(self, line: dict[str, Any], rng: random.Random | None) -> dict[str, Any]:
            return {}[line["category"]]

    with pytest.raises(KeyError):
        Broken(filename=jsonl({"category": 7}))[0]


def test_field() -> None:
    line = {"a": "text", "b": [1]}
    assert field(line, "a", str) == "text"
    assert field(line, "b", list) == [1]
    with pytest.raises(DataError) as caught:
        field(line, "c", dict)
    assert str(caught.value) == "c: expected an object, found nothing (the record has a, b)"
    with pytest.raises(DataError) as caught:
        field(line, "a", list)
    assert str(caught.value) == "a: expected a list, found str 'text'"
