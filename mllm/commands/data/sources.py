"""All items that are compared for duplicates, as one row of numbers: those of training first."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from itertools import accumulate
from typing import Literal

from mllm.dataset.base import Dataset
from mllm.dataset.mixing import build_datasets
from mllm.pipeline.splits import Config, Split, component_datasets, place_of
from mllm.types import Item

Role = Literal["training", "test"]


class Sources:
    """The distinct datasets of some splits, one after the other; what is in training and elsewhere is training's.

    Attributes:
        training: how many of the items are training's.
    """

    def __init__(self, splits: Iterable[Split]) -> None:
        found = list(datasets(splits))
        self.datasets = [build_datasets(cfg) for cfg, _ in found]
        for dataset in self.datasets:
            dataset.set_epoch(None)
        self._ends = list(accumulate(map(len, self.datasets)))
        self.training = sum(
            len(each) for each, (_, role) in zip(self.datasets, found, strict=True) if role == "training"
        )

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __getitem__(self, number: int) -> Item:
        dataset, index = self.locate(number)
        return self.datasets[dataset][index]

    def locate(self, number: int) -> tuple[int, int]:
        """Which dataset an item is of, and its index there."""
        dataset = bisect_right(self._ends, number)
        return dataset, number - (self._ends[dataset - 1] if dataset else 0)

    def place(self, number: int) -> str:
        """Where an item comes from, without reading it."""
        dataset, index = self.locate(number)
        return place_of(self.datasets[dataset], index)

    def lengths(self) -> list[int]:
        return [len(dataset) for dataset in self.datasets]


def datasets(splits: Iterable[Split]) -> list[tuple[Config | Dataset, Role]]:
    """Each distinct dataset once; training first, so that what is in both is training's."""
    found: list[tuple[Config | Dataset, Role]] = []
    for split in sorted(splits, key=lambda split: not split.training):
        for part in component_datasets(split.cfg):
            if all(part != cfg for cfg, _ in found):
                found.append((part, "training" if split.training else "test"))
    return found


def shared(splits: Iterable[Split]) -> list[str]:
    """Names of test sets that are the training set itself, in whole or in part of a mixture."""
    splits = list(splits)
    training = [part for split in splits if split.training for part in component_datasets(split.cfg)]
    inside = [name for split in splits if split.training for name in split.names if name != "train"]
    return inside + [
        name
        for split in splits
        if not split.training and any(part in training for part in component_datasets(split.cfg))
        for name in split.names
    ]
