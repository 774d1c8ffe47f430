"""Datasets made of datasets: one after another, a part of one, one in another order, one several times.

`part(index)` of each gives the dataset that an item is of, and its index there.
"""

from __future__ import annotations

import random
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Annotated, Any, cast

import numpy as np
from numpy.typing import NDArray

from mllm.dataset.base import Dataset, seeded_rng
from mllm.errors import ConfigError
from mllm.fields import FULL, Count, PositiveInt, Range, show
from mllm.registry import DATASETS, DatasetConfig
from mllm.types import Item

Source = DatasetConfig | Dataset
"""A config, or a dataset already built."""
Sources = Annotated[Sequence[Source], FULL]


@DATASETS.register_module()
class ConcatDataset:
    """Datasets one after another. `datasets` are configs, or datasets already built."""

    def __init__(self, *, datasets: Sources) -> None:
        self.datasets = [build_datasets(dataset) for dataset in datasets]
        self._ends = list(accumulate(map(len, self.datasets)))

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, index: int) -> Item:
        dataset, own = self.part(index)
        return dataset[own]

    def part(self, index: int) -> tuple[Dataset, int]:
        check_index(self, index)
        number = bisect_right(self._ends, index)
        return self.datasets[number], index - (self._ends[number - 1] if number else 0)

    def set_epoch(self, epoch: int | None) -> None:
        for dataset in self.datasets:
            dataset.set_epoch(epoch)


@DATASETS.register_module()
class Subset:
    """A part of a dataset: its `first` items, those at `indices`, or a `fraction` or `count` of them drawn by `seed`,
    once for all epochs.

    A drawn fraction is rounded to the nearest count, at least 1. What is drawn keeps the order of the dataset.

    Raises:
        ConfigError: not exactly one of the four is given, or it does not fit the dataset.
    """

    def __init__(
        self,
        *,
        dataset: Source,
        first: PositiveInt | None = None,
        indices: Annotated[Sequence[Count], FULL] | None = None,
        fraction: Annotated[float, Range(above=0, most=1)] | None = None,
        count: PositiveInt | None = None,
        seed: int = 0,
    ) -> None:
        self.dataset = build_datasets(dataset)
        total = len(self.dataset)
        choices = {"first": first, "indices": indices, "fraction": fraction, "count": count}
        self.drawn: Mapping[str, Any] = {}
        """How its items were drawn, where they were: for the record of an evaluation."""
        given = [name for name, value in choices.items() if value is not None]
        if len(given) != 1:
            raise ConfigError(
                expected="exactly one of first, indices, fraction, count", found=", ".join(given) or "none of them"
            )
        for name, number in (("first", first), ("count", count)):
            if number is not None and number > total:
                raise ConfigError(field=name, expected=f"1 to {total}, the items of the dataset", found=str(number))
        if first is not None:
            self.indices: Sequence[int] = range(first)
        elif indices is not None:
            if max(indices) >= total:
                raise ConfigError(field="indices", expected=f"some from 0 to {total - 1}", found=str(max(indices)))
            self.indices = tuple(indices)
        else:
            drawn = count if fraction is None else max(1, round(fraction * total))
            assert drawn is not None, "one of the four is given"
            self.indices = sorted(random.Random(seed).sample(range(total), drawn))
            self.drawn = {**({"count": count} if fraction is None else {"fraction": fraction}), "seed": seed}

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Item:
        dataset, own = self.part(index)
        return dataset[own]

    def part(self, index: int) -> tuple[Dataset, int]:
        check_index(self, index)
        return self.dataset, self.indices[index]

    def set_epoch(self, epoch: int | None) -> None:
        self.dataset.set_epoch(epoch)


@DATASETS.register_module()
class Shuffle:
    """A dataset in an order that is drawn anew in every epoch; evaluation keeps its own."""

    def __init__(self, *, dataset: Source, seed: int = 0) -> None:
        self.dataset = build_datasets(dataset)
        self.seed = seed
        self.epoch: int | None = None
        self._order = order(len(self.dataset), seed, None)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Item:
        dataset, own = self.part(index)
        return dataset[own]

    def part(self, index: int) -> tuple[Dataset, int]:
        check_index(self, index)
        return self.dataset, int(self._order[index])

    def set_epoch(self, epoch: int | None) -> None:
        self.dataset.set_epoch(epoch)
        if epoch != self.epoch:
            self.epoch = epoch
            self._order = order(len(self.dataset), self.seed, epoch)


@DATASETS.register_module()
class Repeat:
    """A dataset repeated `times` times in each epoch; what is drawn for an item (its question) differs each time."""

    def __init__(self, *, dataset: Source, times: PositiveInt) -> None:
        self.dataset = build_datasets(dataset)
        self.times = times
        self.epoch: int | None = None

    def __len__(self) -> int:
        return len(self.dataset) * self.times

    def __getitem__(self, index: int) -> Item:
        dataset, own = self.part(index)
        return dataset[own]

    def part(self, index: int) -> tuple[Dataset, int]:
        check_index(self, index)
        time, index = divmod(index, len(self.dataset))
        if self.epoch is not None:
            self.dataset.set_epoch(self.epoch * self.times + time)
        return self.dataset, index

    def set_epoch(self, epoch: int | None) -> None:
        self.epoch = epoch
        self.dataset.set_epoch(epoch)


def order(count: int, seed: int, epoch: int | None, number: int = 0) -> NDArray[np.int64]:
    """int64 [count]: the numbers below `count` in a drawn order; as they are where `epoch` is None."""
    return np.arange(count) if epoch is None else generator(seed, epoch, number).permutation(count)


def generator(seed: int, epoch: int | None, number: int = 0) -> np.random.Generator:
    """For draws by the thousand; the same in every process."""
    return np.random.default_rng(seeded_rng(seed, epoch, number).getrandbits(128))


def build_datasets(dataset: object) -> Dataset:
    """The dataset of a config; one that is already built stays as it is.

    Raises:
        ConfigError: it is neither.
    """
    if isinstance(dataset, Mapping):
        return DATASETS.make(cast(Mapping[str, Any], dataset))
    if not isinstance(dataset, Dataset):
        raise ConfigError(expected="a dataset's config, dict(type=...)", found=show(dataset))
    return dataset


def check_index(dataset: Dataset, index: int) -> None:
    """Raises IndexError where there is no such item."""
    if not 0 <= index < len(dataset):
        raise IndexError(f"{type(dataset).__name__}: item {index} of {len(dataset)}")
