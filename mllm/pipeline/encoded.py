"""A dataset of Items seen as Examples: what a DataLoader's workers read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import torch
from torch.utils.data import Dataset, Sampler

from mllm.conversation.packing import questions
from mllm.conversation.processor import Processor
from mllm.types import Example, Item


class ItemDataset(Protocol):
    """What a dataset must offer. `set_epoch(None)` is evaluation: nothing is drawn."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int) -> Item: ...
    def set_epoch(self, epoch: int | None) -> None: ...


class Encoded(Dataset[list[Example]]):
    """Encodes items for training on the fly. The epoch lies in shared memory, so that living workers see it change.

    `split=True` gives the rounds of a conversation as separate examples, which a collator may put into one row.
    """

    def __init__(self, items: ItemDataset, processor: Processor, *, split: bool = False) -> None:
        self.items = items
        self.processor = processor
        self.split = split
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()

    @property
    def epoch(self) -> int:
        return int(self._epoch)

    def set_epoch(self, epoch: int) -> None:
        self._epoch.fill_(epoch)

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> list[Example]:
        self.items.set_epoch(self.epoch)
        item = self.processor.fitted(self.items[index])
        items = questions(item) if self.split else [item]
        pictures = self.processor.pictures(item)
        return [self.processor.encode(each, index, pictures=pictures) for each in items]


class Grouped(Dataset[list[Example]]):
    """Items of an evaluation by groups that have their pictures in common, which are opened once.

    `answer=False` gives prompts.
    """

    def __init__(
        self, items: ItemDataset, processor: Processor, groups: Sequence[Sequence[int]], *, answer: bool
    ) -> None:
        self.items = items
        self.processor = processor
        self.groups = groups
        self.answer = answer

    def __len__(self) -> int:
        return len(self.groups)

    def __getitem__(self, number: int) -> list[Example]:
        self.items.set_epoch(None)
        items = {index: self.items[index] for index in self.groups[number]}
        pictures = self.processor.pictures(next(iter(items.values())))
        return [
            self.processor.encode(item, index, answer=self.answer, pictures=pictures) for index, item in items.items()
        ]


class EpochShuffle(Sampler[int]):
    """A permutation of the dataset that follows from (seed, epoch) alone: equal on every rank, different each epoch."""

    def __init__(self, dataset: Encoded, *, seed: int) -> None:
        self.dataset = dataset
        self.seed = seed

    def __len__(self) -> int:
        return len(self.dataset)

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed((self.seed << 32) + self.dataset.epoch)
        yield from torch.randperm(len(self.dataset), generator=generator).tolist()


def to_device(batch: dict[str, Any], device: torch.device) -> dict[str, Any]:
    return {name: value.to(device, non_blocking=True) for name, value in batch.items()}
