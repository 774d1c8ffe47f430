"""Datasets made of datasets: one after another, a part of one, one in another order, one several times."""

from __future__ import annotations

import random
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from mllm.dataset.base import Dataset, seeded
from mllm.errors import ConfigError
from mllm.registry import DATASETS
from mllm.types import Item


@DATASETS.register_module()
class ConcatDataset:
    """Datasets one after another. `datasets` are configs, or datasets already built."""

    def __init__(self, *, datasets: Sequence[Mapping[str, Any] | Dataset]) -> None:
        if not datasets:
            raise ConfigError("ConcatDataset: datasets: expected at least one, found none")
        self.datasets = [built(dataset) for dataset in datasets]
        self._ends = list(accumulate(map(len, self.datasets)))

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, index: int) -> Item:
        dataset, own = self.part(index)
        return dataset[own]

    def part(self, index: int) -> tuple[Dataset, int]:
        """The dataset that an item is of, and its index there."""
        check_index(self, index)
        number = bisect_right(self._ends, index)
        return self.datasets[number], index - (self._ends[number - 1] if number else 0)

    def set_epoch(self, epoch: int | None) -> None:
        for dataset in self.datasets:
            dataset.set_epoch(epoch)


@DATASETS.register_module()
class Subset:
    """A part of a dataset: its `first` items, those at `indices`, or a `fraction` drawn by `seed`, once for all epochs.

    A drawn fraction is rounded to the nearest count, at least 1, and keeps the order of the dataset.

    Raises:
        ConfigError: not exactly one of the three is given, or it does not fit the dataset.
    """

    def __init__(
        self,
        *,
        dataset: Mapping[str, Any] | Dataset,
        first: int | None = None,
        indices: Sequence[int] | None = None,
        fraction: float | None = None,
        seed: int = 0,
    ) -> None:
        self.dataset = built(dataset)
        total = len(self.dataset)
        if (first is not None) + (indices is not None) + (fraction is not None) != 1:
            raise ConfigError("Subset: expected exactly one of first, indices, fraction")
        if first is not None:
            if not 1 <= first <= total:
                raise ConfigError(f"Subset: first: expected 1 to {total}, found {first}")
            self.indices: Sequence[int] = range(first)
        elif indices is not None:
            if not indices or not all(0 <= index < total for index in indices):
                raise ConfigError(f"Subset: indices: expected some from 0 to {total - 1}, found {list(indices)[:8]}")
            self.indices = tuple(indices)
        elif fraction is not None:
            if not 0 < fraction <= 1:
                raise ConfigError(f"Subset: fraction: expected more than 0 and at most 1, found {fraction}")
            self.indices = sorted(random.Random(seed).sample(range(total), max(1, round(fraction * total))))

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Item:
        check_index(self, index)
        return self.dataset[self.indices[index]]

    def set_epoch(self, epoch: int | None) -> None:
        self.dataset.set_epoch(epoch)


@DATASETS.register_module()
class Shuffle:
    """A dataset in an order that is drawn anew in every epoch; evaluation keeps its own."""

    def __init__(self, *, dataset: Mapping[str, Any] | Dataset, seed: int = 0) -> None:
        self.dataset = built(dataset)
        self.seed = seed
        self.epoch: int | None = None
        self._order = order(len(self.dataset), seed, None)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Item:
        check_index(self, index)
        return self.dataset[int(self._order[index])]

    def set_epoch(self, epoch: int | None) -> None:
        self.dataset.set_epoch(epoch)
        if epoch != self.epoch:
            self.epoch = epoch
            self._order = order(len(self.dataset), self.seed, epoch)


@DATASETS.register_module()
class Repeat:
    """A dataset `times` times in each epoch; what is drawn for an item, such as its question, differs each time."""

    def __init__(self, *, dataset: Mapping[str, Any] | Dataset, times: int) -> None:
        if times < 1:
            raise ConfigError(f"Repeat: times: expected at least 1, found {times}")
        self.dataset = built(dataset)
        self.times = times
        self.epoch: int | None = None

    def __len__(self) -> int:
        return len(self.dataset) * self.times

    def __getitem__(self, index: int) -> Item:
        check_index(self, index)
        time, index = divmod(index, len(self.dataset))
        if self.epoch is not None:
            self.dataset.set_epoch(self.epoch * self.times + time)
        return self.dataset[index]

    def set_epoch(self, epoch: int | None) -> None:
        self.epoch = epoch
        self.dataset.set_epoch(epoch)


def order(count: int, seed: int, epoch: int | None, number: int = 0) -> NDArray[np.int64]:
    """int64 [count]: the numbers below `count` in a drawn order; as they are where `epoch` is None."""
    return np.arange(count) if epoch is None else generator(seed, epoch, number).permutation(count)


def generator(seed: int, epoch: int | None, number: int = 0) -> np.random.Generator:
    """For draws by the thousand; the same in every process."""
    return np.random.default_rng(seeded(seed, epoch, number).getrandbits(128))


def built(dataset: object) -> Dataset:
    """The dataset of a config; one that is already built stays as it is.

    Raises:
        ConfigError: it is neither.
    """
    if isinstance(dataset, Mapping):
        return DATASETS.make(cast(Mapping[str, Any], dataset))
    if not isinstance(dataset, Dataset):
        raise ConfigError(f"expected a dataset's config, dict(type=...), found {dataset!r:.60}")
    return dataset


def check_index(dataset: Dataset, index: int) -> None:
    """Raises IndexError where there is no such item."""
    if not 0 <= index < len(dataset):
        raise IndexError(f"{type(dataset).__name__}: item {index} of {len(dataset)}")
