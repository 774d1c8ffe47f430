from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import pytest

from mllm.dataset.base import Dataset
from mllm.dataset.mixing import ConcatDataset, Repeat, Subset
from mllm.errors import ConfigError
from mllm.registry import DATASETS


@pytest.fixture
def texts(jsonl: Callable[..., str]) -> Callable[[str, int], dict[str, Any]]:
    """The config of a dataset whose answers are name0, name1, ..."""

    def cfg(name: str, count: int) -> dict[str, Any]:
        lines = ({"instruction": "?", "output": f"{name}{n}"} for n in range(count))
        return {"type": "TextOnly", "filename": jsonl(*lines, name=f"{name}.jsonl")}

    return cfg


def answers(dataset: Dataset) -> list[str]:
    return [dataset[index].turns[-1].text for index in range(len(dataset))]


def test_concat(texts: Callable[[str, int], dict[str, Any]]) -> None:
    cfg = {"type": "ConcatDataset", "datasets": [texts("a", 2), texts("b", 1), texts("c", 3)]}
    dataset = DATASETS.make(cfg)
    assert answers(dataset) == ["a0", "a1", "b0", "c0", "c1", "c2"]
    assert answers(pickle.loads(pickle.dumps(dataset))) == answers(dataset)  # noqa: S301
    for index in (-1, 6):
        with pytest.raises(IndexError, match=f"ConcatDataset: item {index} of 6"):
            dataset[index]
    with pytest.raises(
        ConfigError, match=r"datasets: expected a non-empty list, each a dataset, dict\(type=...\), found list '\[\]'"
    ):
        DATASETS.make({"type": "ConcatDataset", "datasets": []})


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        ({"first": 2}, ["a0", "a1"]),
        ({"indices": [3, 0]}, ["a3", "a0"]),
        ({"fraction": 1.0}, ["a0", "a1", "a2", "a3"]),
    ],
)
def test_subset(texts: Callable[[str, int], dict[str, Any]], part: dict[str, Any], expected: list[str]) -> None:
    assert answers(DATASETS.make({"type": "Subset", "dataset": texts("a", 4), **part})) == expected


def test_a_drawn_fraction(texts: Callable[[str, int], dict[str, Any]]) -> None:
    dataset = DATASETS.make(texts("a", 100))
    drawn = [answers(Subset(dataset=dataset, fraction=0.1, seed=seed)) for seed in (0, 0, 1)]
    assert [len(part) for part in drawn] == [10, 10, 10]
    assert drawn[0] == drawn[1] != drawn[2]
    assert drawn[0] == sorted(drawn[0], key=lambda text: int(text[1:]))
    assert len(Subset(dataset=dataset, fraction=0.001)) == 1
    assert answers(Subset(dataset=dataset, count=len(drawn[0]))) == drawn[0]


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ({}, "expected exactly one of first, indices, fraction, count, found none of them"),
        (
            {"first": 1, "fraction": 0.5},
            "expected exactly one of first, indices, fraction, count, found first, fraction",
        ),
        ({"first": 5}, "first: expected 1 to 4, the items of the dataset, found 5"),
        ({"indices": [4]}, "indices: expected some from 0 to 3, found 4"),
        ({"indices": []}, "indices: expected a non-empty list of whole numbers of at least 0 or None, found list '[]'"),
        ({"fraction": 0}, "fraction: expected a number above 0 and at most 1 or None, found int '0'"),
    ],
)
def test_parts_that_do_not_fit(texts: Callable[[str, int], dict[str, Any]], part: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        DATASETS.make({"type": "Subset", "dataset": texts("a", 4), **part})
    assert str(caught.value) == f"dataset 'Subset': {message}"


def test_the_epoch_reaches_every_dataset() -> None:
    scenes = {"type": "Scenes", "count": 4}
    dataset = ConcatDataset(datasets=[scenes, Subset(dataset=scenes, first=2)])
    fixed = [dataset[index] for index in range(6)]
    dataset.set_epoch(3)
    drawn = [dataset[index] for index in range(6)]
    assert fixed[4:] == fixed[:2]
    assert drawn[4:] == drawn[:2]
    assert drawn != fixed


def test_shuffle(texts: Callable[[str, int], dict[str, Any]]) -> None:
    dataset = DATASETS.make({"type": "Shuffle", "dataset": texts("a", 20), "seed": 3})
    kept = answers(dataset)
    assert kept == [f"a{n}" for n in range(20)]
    seen: list[list[str]] = []
    for epoch in (0, 1, 0):
        dataset.set_epoch(epoch)
        seen.append(answers(dataset))
    assert sorted(seen[0]) == sorted(seen[1]) == sorted(kept)
    assert seen[0] == seen[2] != seen[1] != kept != seen[0]
    dataset.set_epoch(None)
    assert answers(dataset) == kept


def test_repeats_draw_anew(texts: Callable[[str, int], dict[str, Any]]) -> None:
    assert answers(DATASETS.make({"type": "Repeat", "dataset": texts("a", 2), "times": 2})) == ["a0", "a1"] * 2
    scenes = Repeat(dataset={"type": "Scenes", "count": 2}, times=2)
    assert scenes[0] == scenes[2]  # evaluation
    drawn: list[Any] = []
    for epoch in (0, 1):
        scenes.set_epoch(epoch)
        drawn += [scenes[0], scenes[2]]
    assert len({item.turns for item in drawn}) == 4
    scenes.set_epoch(0)
    assert [scenes[2], scenes[0]] == [drawn[1], drawn[0]]
    with pytest.raises(ConfigError, match="times: expected a whole number of at least 1, found int '0'"):
        DATASETS.make({"type": "Repeat", "dataset": texts("b", 1), "times": 0})
