from __future__ import annotations

import json
import pickle
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mllm.dataset import sampling
from mllm.dataset.base import Dataset
from mllm.dataset.sampling import Interleave, Mixture
from mllm.errors import ConfigError, DataError
from mllm.registry import DATASETS


@pytest.fixture
def texts(jsonl: Callable[..., str]) -> Callable[[str, int], dict[str, Any]]:
    """The config of a dataset whose answers are name0, name1, ..."""

    def cfg(name: str, count: int) -> dict[str, Any]:
        lines = ({"instruction": "?", "output": f"{name}{n}"} for n in range(count))
        return {"type": "TextOnly", "filename": jsonl(*lines, name=f"{name}.jsonl")}

    return cfg


def answers(dataset: Dataset, epoch: int | None) -> list[str]:
    dataset.set_epoch(epoch)
    return [dataset[index].turns[-1].text for index in range(len(dataset))]


def shares(drawn: list[str]) -> Counter[str]:
    return Counter(text[0] for text in drawn)


def test_ratios(texts: Callable[[str, int], dict[str, Any]]) -> None:
    cfg = {
        "type": "Mixture",
        "datasets": [texts("a", 100), texts("b", 3)],
        "ratios": [1, 3],
        "train_num_samples": 40,
    }
    dataset = DATASETS.make(cfg)
    epochs = [answers(dataset, epoch) for epoch in (0, 1, 0, None, None)]
    assert all(shares(drawn) == {"a": 10, "b": 30} for drawn in epochs)
    assert epochs[0] == epochs[2] != epochs[1]
    assert epochs[3] == epochs[4]
    assert answers(DATASETS.make({**cfg, "seed": 1}), 0) != epochs[0]
    assert answers(pickle.loads(pickle.dumps(dataset)), 1) == epochs[1]  # noqa: S301


def test_square_roots_of_sizes(texts: Callable[[str, int], dict[str, Any]]) -> None:
    dataset = Mixture(datasets=[texts("a", 100), texts("b", 4)], sampling="sqrt", train_num_samples=12)
    assert shares(answers(dataset, 0)) == {"a": 10, "b": 2}


def test_what_rounding_leaves_goes_to_a_drawn_dataset(texts: Callable[[str, int], dict[str, Any]]) -> None:
    dataset = Mixture(datasets=[texts(name, 9) for name in "abc"], train_num_samples=11)
    counts = [shares(answers(dataset, epoch)) for epoch in range(12)]
    assert {max(count, key=count.__getitem__) for count in counts} == {"a", "b", "c"}
    assert {tuple(sorted(count.values())) for count in counts} == {(3, 3, 5)}


def test_without_a_number_every_item_comes_once(texts: Callable[[str, int], dict[str, Any]]) -> None:
    dataset = Mixture(datasets=[texts("a", 2), texts("b", 3)])
    assert answers(dataset, 0) == answers(dataset, 1) == ["a0", "a1", "b0", "b1", "b2"]


def test_interleaved_until_the_first_is_spent(texts: Callable[[str, int], dict[str, Any]]) -> None:
    cfg = {"type": "Interleave", "datasets": [texts("a", 40), texts("b", 10)], "probabilities": [0.5, 0.5], "seed": 2}
    dataset = DATASETS.make(cfg)
    epochs = [answers(dataset, epoch) for epoch in (0, 1, 0, None)]
    assert epochs[0] == epochs[2] != epochs[1]
    for drawn in epochs:
        assert len(set(drawn)) == len(drawn)
        assert (shares(drawn)["b"], shares(drawn)["a"]) == (10, 14)
        assert drawn[-1][0] == "b"
        assert [text[0] for text in drawn] == [text[0] for text in epochs[0]]
    assert {text for text in epochs[0] if text[0] == "a"} != {text for text in epochs[1] if text[0] == "a"}
    assert [text for text in epochs[3] if text[0] == "b"] == [f"b{n}" for n in range(10)]


def test_interleaved_until_all_are_spent(
    texts: Callable[[str, int], dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sampling, "CHUNK", 16)  # the draws are made in more than one go
    dataset = Interleave(datasets=[texts("a", 30), texts("b", 4)], probabilities=[2, 1], stopping="all")
    drawn = answers(dataset, 0)
    mine = {name: [text for text in drawn if text[0] == name] for name in "ab"}
    assert sorted(mine["a"]) == sorted(f"a{n}" for n in range(30))
    assert drawn[-1][0] == "a"
    for start in range(0, len(mine["b"]) - 3, 4):  # each time round all of it, in another order
        assert sorted(mine["b"][start : start + 4]) == ["b0", "b1", "b2", "b3"]
    assert len(mine["b"]) > 8
    assert mine["b"][:4] != mine["b"][4:8]


class Numbered:
    """Items that are pairs: which dataset, and which of it."""

    def __init__(self, number: int, size: int) -> None:
        self.number, self.size = number, size

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> Any:
        assert 0 <= index < self.size
        return self.number, index

    def set_epoch(self, epoch: int | None) -> None: ...


WEIGHTED = st.lists(st.tuples(st.integers(1, 9), st.floats(0.1, 9)), min_size=1, max_size=4)


@given(parts=WEIGHTED, stopping=st.sampled_from(["first", "all"]), seed=st.integers(), epoch=st.integers(0, 9))
def test_interleaved_datasets_give_all_before_any_again(
    parts: list[tuple[int, float]], stopping: Any, seed: int, epoch: int
) -> None:
    sizes = [size for size, _ in parts]
    datasets: list[Any] = [Numbered(number, size) for number, size in enumerate(sizes)]
    dataset = Interleave(datasets=datasets, probabilities=[p for _, p in parts], stopping=stopping, seed=seed)
    dataset.set_epoch(epoch)
    drawn: list[Any] = [dataset[index] for index in range(len(dataset))]
    given = [[item for number, item in drawn if number == wanted] for wanted in range(len(sizes))]
    for items, size in zip(given, sizes, strict=True):
        for start in range(0, len(items) - size + 1, size):
            assert sorted(items[start : start + size]) == list(range(size))
    spent = [len(items) >= size for items, size in zip(given, sizes, strict=True)]
    last = drawn[-1][0]
    assert len(given[last]) == sizes[last]  # what it gave last was its last
    assert all(spent) if stopping == "all" else sum(spent) == 1


@given(parts=WEIGHTED, count=st.integers(1, 60), seed=st.integers(), epoch=st.none() | st.integers(0, 9))
def test_a_mixture_keeps_its_shares(parts: list[tuple[int, float]], count: int, seed: int, epoch: int | None) -> None:
    datasets: list[Any] = [Numbered(number, size) for number, (size, _) in enumerate(parts)]
    ratios = [ratio for _, ratio in parts]
    dataset = Mixture(datasets=datasets, ratios=ratios, train_num_samples=count, seed=seed)
    dataset.set_epoch(epoch)
    drawn: list[Any] = [dataset[index] for index in range(len(dataset))]
    assert len(drawn) == count
    exact = [count * ratio / sum(ratios) for ratio in ratios]
    more = [sum(number == n for number, _ in drawn) - share for n, share in enumerate(exact)]
    assert all(extra > -1 for extra in more)
    assert sum(extra > 1e-6 for extra in more) <= 1


def test_all_datasets_know_the_epoch() -> None:
    scenes = {"type": "Scenes", "count": 4}
    for kind in ({"type": "Mixture", "train_num_samples": 9}, {"type": "Interleave"}):
        dataset = DATASETS.make({**kind, "datasets": [scenes, scenes]})
        seen: list[Any] = []
        for epoch in (0, 1):
            dataset.set_epoch(epoch)
            seen.append({dataset[index].turns for index in range(len(dataset))})
        assert seen[0] != seen[1]


@pytest.mark.parametrize(
    ("cfg", "message"),
    [
        (
            {"type": "Mixture", "datasets": []},
            "datasets: expected a non-empty list, each a dataset, dict(type=...), found list '[]'",
        ),
        ({"type": "Mixture", "ratios": [1]}, "'Mixture': ratios: expected 2 number(s), one for each dataset, found 1"),
        ({"type": "Mixture", "ratios": [1, 0]}, "ratios.1: expected a number above 0, found int '0'"),
        ({"type": "Mixture", "ratios": ["3", "1"]}, "ratios.0: expected a number above 0, found str '3'"),
        ({"type": "Interleave", "probabilities": "12"}, "Interleave"),
        (
            {"type": "ConcatDataset", "datasets": ["REC_TRAIN"]},
            "datasets.0: expected a dataset, dict(type=...), found str 'REC_",
        ),
        (
            {"type": "Mixture", "datasets": {"type": "Scenes", "count": 2}},
            "a non-empty list, each a dataset, dict(type=...), found dict",
        ),
        ({"type": "Mixture", "ratios": [1, float("inf")]}, "ratios.1: expected a number above 0, found float 'inf'"),
        (
            {"type": "Mixture", "sampling": "sqrt", "ratios": [1, 1]},
            "ratios: expected nothing with sampling='sqrt', whose weights are the sizes, found",
        ),
        (
            {"type": "Mixture", "ratios": [9, 1]},
            "'Mixture': train_num_samples: expected the number of items of an epoch",
        ),
        (
            {"type": "Mixture", "sampling": "sqrt"},
            "'Mixture': train_num_samples: expected the number of items of an epoch",
        ),
        (
            {"type": "Mixture", "train_num_samples": 1e6},
            "train_num_samples: expected a whole number of at least 1 or None, found float",
        ),
        (
            {"type": "Mixture", "sampling": "sqr"},
            "'ratio', 'sqrt', found str 'sqr'; did you mean 'sqrt'?",
        ),
        (
            {"type": "Mixture", "train_num_samples": 0},
            "train_num_samples: expected a whole number of at least 1",
        ),
        (
            {"type": "Interleave", "probabilities": [1, -1]},
            "probabilities.1: expected a number above 0, found",
        ),
        ({"type": "Interleave", "stopping": "last"}, "stopping: expected one of 'first', 'all', found str 'last'"),
    ],
)
def test_what_cannot_be_mixed(cfg: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        DATASETS.make({"datasets": [{"type": "Scenes", "count": 2}] * 2, **cfg})
    assert message in str(caught.value)


@pytest.fixture
def flamingo(tmp_path: Path) -> Callable[..., str]:
    """Two data files, and a config of Instruct-Flamingo that names them; changes go into its first entry."""

    def write(**changes: Any) -> str:
        entries: list[dict[str, Any]] = []
        for name, count in (("a", 4), ("b", 2)):
            path = tmp_path / f"{name}.json"
            path.write_text(
                json.dumps([{"input": f"<img_path>{n}.png<img_path>", "output": name} for n in range(count)])
            )
            entries.append({"dataset_name": name, "json_path": str(path), "img_dir": name, "ratio": 1})
        entries[0] |= {"ratio": 3, "img_dir": "", **changes}
        (tmp_path / "datasets.json").write_text(json.dumps(entries))
        return str(tmp_path / "datasets.json")

    return write


def test_a_config_of_instruct_flamingo(flamingo: Callable[..., str]) -> None:
    cfg = {"type": "InstructFlamingoMixture", "filename": flamingo()}
    dataset = DATASETS.make({**cfg, "train_num_samples": 8})
    assert shares(answers(dataset, 0)) == {"a": 6, "b": 2}
    assert dataset[7].images[0].path in {"b/0.png", "b/1.png"}
    assert dataset[0].images[0].path in {f"{n}.png" for n in range(4)}
    assert shares(answers(DATASETS.make(cfg), 0)) == {"a": 4, "b": 2}
    roots = DATASETS.make({**cfg, "sampling": "sqrt", "train_num_samples": 100})
    assert shares(answers(roots, 0))["a"] in (58, 59)


def test_a_data_file_in_place_of_the_config(flamingo: Callable[..., str], tmp_path: Path) -> None:
    flamingo()
    alone = DATASETS.make(
        {"type": "InstructFlamingoMixture", "filename": str(tmp_path / "a.json"), "image_folder": "images"}
    )
    assert len(alone) == 4
    assert alone[1].images[0].path == "images/1.png"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ratio": 0}, "datasets.json[0]: ratio: expected a number above 0, found int '0'"),
        ({"ratio": float("nan")}, "datasets.json[0]: ratio: expected a finite number, found float 'nan'"),
        ({"img_folder": "x"}, "datasets.json[0]: img_folder: unknown name; did you mean 'img_dir'?"),
        ({"json_path": 3}, "datasets.json[0]: json_path: expected a text, found int '3'"),
        ({"json_path": "/no/such.json"}, "/no/such.json: cannot be read: No such file or directory"),
    ],
)
def test_configs_with_faults(flamingo: Callable[..., str], changes: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError) as caught:
        DATASETS.make({"type": "InstructFlamingoMixture", "filename": flamingo(**changes)})
    assert message in str(caught.value)
