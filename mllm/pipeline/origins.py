"""Which dataset of a mixture an item is of, and the loss of each dataset.

Shape suffixes: N labelled tokens.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from mllm.errors import ImageError
from mllm.pipeline.splits import file_of, place_of


class Origins:
    """Numbers the datasets that a dataset is drawn from, from 0 on. One that is not drawn from others is number 0.

    Datasets that others make conversations of (`MultiTurn`, `SamePicture`) count as one.
    """

    def __init__(self, items: Any) -> None:
        self.items = items
        self._found = list(_drawn_from(items, None))

    def __len__(self) -> int:
        return len(self._found)

    def __call__(self, index: int) -> int:
        """The number of the dataset that an item of this epoch is of."""
        dataset = self.items
        while True:
            for number, (_, known) in enumerate(self._found):
                if known is dataset:
                    return number
            dataset, index = dataset.part(index)

    @cached_property
    def names(self) -> list[str]:
        """Those that a `Mixture` gives, else those of the files."""
        return names_of(self._found)


def _drawn_from(dataset: Any, name: str | None) -> Iterator[tuple[str | None, object]]:
    """Datasets with the names that a mixture gives them; what a mixture names is not looked into."""
    if name is not None or not hasattr(dataset, "part"):
        yield name, dataset
        return
    inner: Sequence[object] = getattr(dataset, "datasets", None) or [dataset.dataset]
    for given, each in zip(getattr(dataset, "names", None) or [None] * len(inner), inner, strict=True):
        yield from _drawn_from(each, given)


def names_of(datasets: Sequence[tuple[str | None, object]]) -> list[str]:
    """A distinct name for each of several datasets, fit for a file: the given one, else that of its file.

    Where files in several folders have the same name, their folder stands before it; where it is one file, a number
    behind it.
    """
    paths = [[name] if name else _path_of(dataset) for name, dataset in datasets]
    short = Counter(last for *_, last in {tuple(path) for path in paths})
    clashing = {name for name, count in short.items() if count > 1}
    names = ["_".join(path) if path[-1] in clashing else path[-1] for path in paths]
    counts: Counter[str] = Counter()
    found: list[str] = []
    for name in [re.sub(r"[^\w.-]+", "_", name) for name in names]:
        counts[name] += 1
        found.append(name if counts[name] == 1 else f"{name}_{counts[name]}")
    return found


def _path_of(dataset: Any) -> list[str]:
    """Folder and name of the file that the first item is from, or what its key says in place of one."""
    dataset.set_epoch(None)
    try:
        key = dataset[0].key
    except ImageError:  # who trains on it may leave it out
        key = place_of(dataset, 0)
    file = Path(file_of(key))
    return [*file.parts[-2:-1], file.stem]


class DatasetLosses:
    """The mean loss of the tokens of each dataset since it was last asked for, over all ranks.

    Sums stay on the device, so that no step waits for it. A loss that is not finite is left out.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = names
        self._sums: Tensor | None = None

    def add(self, losses_N: Tensor, sources_N: Tensor) -> None:
        """
        Args:
            losses_N: float32, of each labelled token of a batch.
            sources_N: int64, the number of the dataset that it is of.
        """
        if self._sums is None:
            self._sums = torch.zeros(len(self.names), 2, dtype=torch.float64, device=losses_N.device)
        finite_N = losses_N.isfinite()
        values = torch.stack([losses_N.where(finite_N, 0), finite_N], dim=1).double()
        self._sums.index_add_(0, sources_N.to(losses_N.device), values)

    def means(self, accelerator: Accelerator) -> dict[str, float]:
        """`loss/NAME` of each dataset that has given a token; all ranks call it together."""
        sums, self._sums = self._sums, None
        if sums is None:
            sums = torch.zeros(len(self.names), 2, dtype=torch.float64, device=accelerator.device)
        everyones: Any = accelerator.reduce(sums, reduction="sum")
        pairs = zip(self.names, everyones.tolist(), strict=True)
        return {f"loss/{name}": total / count for name, (total, count) in pairs if count}
