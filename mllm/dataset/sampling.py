"""Datasets in proportions: each epoch draws anew what it takes of each, from (seed, epoch) alone.

So every rank and every worker has the same items in the same places, and a resumed run goes on with those of the run
that was cut. The number of items is the same in every epoch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mllm.dataset.base import Dataset
from mllm.dataset.mixing import Sources, build_datasets, check_index, generator, order
from mllm.errors import ConfigError
from mllm.fields import Positive, PositiveInt, show
from mllm.registry import DATASETS
from mllm.types import Item

Sampling = Literal["ratio", "sqrt"]
Stopping = Literal["first", "all"]
CHUNK = 1 << 16


@DATASETS.register_module()
class Mixture:
    """`train_num_samples` items of several datasets, drawn anew in every epoch, with replacement.

    Args:
        datasets: configs, or datasets already built.
        sampling: weights of the datasets: their `ratios`, or the square roots of their sizes (InstructBLIP, Dai et al.
            2023). Each gives its share rounded down, a drawn one what then is missing.
        ratios: a positive number for each dataset; default: all the same.
        train_num_samples: items of an epoch; None takes every item of every dataset once, in whatever shares those are.
        seed: of the draws. Evaluation draws too, once for all.
        names: of the datasets, for the files of their predictions; default: by their own files.

    Source: what Instruct-Flamingo does, whose draws differ between runs.
    """

    def __init__(
        self,
        *,
        datasets: Sources,
        sampling: Sampling = "ratio",
        ratios: Sequence[Positive] | None = None,
        train_num_samples: PositiveInt | None = None,
        seed: int = 0,
        names: Sequence[str] | None = None,
    ) -> None:
        self.datasets = [build_datasets(dataset) for dataset in datasets]
        if names is not None and len(names) != len(self.datasets):
            raise ConfigError(
                field="names", expected=f"{len(self.datasets)}, one for each dataset", found=str(len(names))
            )
        self.names = names
        sizes = [len(dataset) for dataset in self.datasets]
        if sampling == "sqrt":
            if ratios is not None:
                raise ConfigError(
                    field="ratios",
                    expected="nothing with sampling='sqrt', whose weights are the sizes",
                    found=show(ratios),
                )
            ratios = [math.sqrt(size) for size in sizes]
        self.shares = _shares("ratios", ratios, len(sizes))
        if train_num_samples is None and ratios is not None:
            raise ConfigError(
                "without ratios an epoch holds every item of every dataset once",
                field="train_num_samples",
                expected="the number of items of an epoch, which ratios are shares of",
                found="nothing",
            )
        self.count = train_num_samples
        self.seed = seed
        self.epoch: int | None = None
        self._plan = self._drawn(None)

    def __len__(self) -> int:
        return len(self._plan)

    def __getitem__(self, index: int) -> Item:
        dataset, own = self.part(index)
        return dataset[own]

    def part(self, index: int) -> tuple[Dataset, int]:
        check_index(self, index)
        return self.datasets[int(self._plan[index, 0])], int(self._plan[index, 1])

    def set_epoch(self, epoch: int | None) -> None:
        for dataset in self.datasets:
            dataset.set_epoch(epoch)
        if epoch != self.epoch and self.count is not None:
            self._plan = self._drawn(epoch)
        self.epoch = epoch

    def _drawn(self, epoch: int | None) -> NDArray[np.int32]:
        """int32 [items, 2]: number of a dataset, and index in it."""
        sizes = [len(dataset) for dataset in self.datasets]
        if self.count is None:
            return _pairs([np.arange(size) for size in sizes])
        rng = generator(self.seed, epoch)
        counts = [int(self.count * share) for share in self.shares]
        counts[int(rng.integers(len(counts)))] += self.count - sum(counts)
        return _pairs([rng.integers(size, size=count) for size, count in zip(sizes, counts, strict=True)])


@DATASETS.register_module()
class Interleave:
    """Items of several datasets in turn, each from the dataset that `probabilities` draw, until `stopping`.

    Which dataset gives an item is drawn once by `seed`, so that epochs are equally long; which item it is, anew in
    every epoch: a dataset goes through all its items in a drawn order before it begins again. Evaluation draws the
    datasets too, but takes their items as they stand.

    Args:
        datasets: configs, or datasets already built.
        probabilities: a positive number for each dataset, as parts of their sum; default: all the same.
        stopping: "first": as soon as one dataset has given all its items; "all": once each has.
        seed: of the draws.
    """

    def __init__(
        self,
        *,
        datasets: Sources,
        probabilities: Sequence[Positive] | None = None,
        stopping: Stopping = "first",
        seed: int = 0,
    ) -> None:
        self.datasets = [build_datasets(dataset) for dataset in datasets]
        shares = _shares("probabilities", probabilities, len(self.datasets))
        self.seed = seed
        self.epoch: int | None = None
        sizes = [len(dataset) for dataset in self.datasets]
        self._sources = _turns(sizes, shares, stopping, generator(seed, None))
        self._places = _places(self._sources, len(sizes))
        self._orders: dict[tuple[int, int], NDArray[np.int64]] = {}

    def __len__(self) -> int:
        return len(self._sources)

    def __getitem__(self, index: int) -> Item:
        dataset, own = self.part(index)
        return dataset[own]

    def part(self, index: int) -> tuple[Dataset, int]:
        check_index(self, index)
        number = int(self._sources[index])
        time, place = divmod(int(self._places[index]), len(self.datasets[number]))
        return self.datasets[number], int(self._order(number, time)[place])

    def set_epoch(self, epoch: int | None) -> None:
        for dataset in self.datasets:
            dataset.set_epoch(epoch)
        if epoch != self.epoch:
            self.epoch = epoch
            self._orders.clear()

    def _order(self, number: int, time: int) -> NDArray[np.int64]:
        """In which a dataset gives its items when it goes through them for the n-th time of an epoch."""
        if (number, time) not in self._orders:
            draw = 1 + number + time * len(self.datasets)
            self._orders[number, time] = order(len(self.datasets[number]), self.seed, self.epoch, draw)
        return self._orders[number, time]


def _shares(field: str, weights: Sequence[float] | None, count: int) -> list[float]:
    """Parts of 1."""
    weights = [1.0] * count if weights is None else weights
    if len(weights) != count:
        raise ConfigError(field=field, expected=f"{count} number(s), one for each dataset", found=str(len(weights)))
    total = sum(weights)
    return [weight / total for weight in weights]


def _pairs(drawn: Sequence[NDArray[np.int64]]) -> NDArray[np.int32]:
    numbers = np.repeat(np.arange(len(drawn)), [len(items) for items in drawn])
    return np.stack([numbers, np.concatenate(drawn)], axis=1).astype(np.int32)


def _turns(
    sizes: Sequence[int], shares: Sequence[float], stopping: Stopping, rng: np.random.Generator
) -> NDArray[np.int16]:
    """int16 [items]: which dataset gives each item."""
    given = np.zeros(len(sizes), np.int64)
    parts: list[NDArray[np.int16]] = []
    while True:
        part = rng.choice(len(sizes), size=CHUNK, p=shares).astype(np.int16)
        so_far = given + np.cumsum(part[:, None] == np.arange(len(sizes)), axis=0)
        spent = so_far >= np.array(sizes)
        over = spent.any(axis=1) if stopping == "first" else spent.all(axis=1)
        if over.any():
            return np.concatenate([*parts, part[: int(over.argmax()) + 1]])
        parts.append(part)
        given = so_far[-1]


def _places(sources: NDArray[np.int16], count: int) -> NDArray[np.int64]:
    """int64 [items]: how many items the same dataset has given before."""
    places = np.empty(len(sources), np.int64)
    for number in range(count):
        mine = np.flatnonzero(sources == number)
        places[mine] = np.arange(len(mine))
    return places
