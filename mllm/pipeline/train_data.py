"""A dataset of Items seen as Examples: what a DataLoader's workers read."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from mllm.conversation.packing import Length, split_rounds
from mllm.conversation.processor import ImageTensors, Processor
from mllm.errors import ImageError
from mllm.images import ImageRef
from mllm.images.settings import ImageSettings, configure, current_settings
from mllm.interrupts import leave_signals_to_the_parent
from mllm.models.vision.kept_features import keyed
from mllm.pipeline.origins import Origins
from mllm.types import EncodedSample, Item

REPLACEMENTS = 10
"""As many are tried for one item: when all fail, it is not the images but the disk or the network."""


class ItemDataset(Protocol):
    """What a dataset must offer. `set_epoch(None)` is evaluation: nothing is drawn."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int) -> Item: ...
    def set_epoch(self, epoch: int | None) -> None: ...


def start_worker(settings: ImageSettings, number: int, *, init: Callable[[int], None] | None = None) -> None:
    """Set up a data loading worker: it leaves signals to its parent, and opens images as its parent does.

    A worker that was spawned, not forked, knows nothing of the `settings` of its parent. `init`: what else sets it up.
    """
    leave_signals_to_the_parent()
    configure(settings)
    if init is not None:
        init(number)


class ImageLoader:
    """Opens images as the `ImageSettings` of the process that made it say; see `start_worker` for other processes."""

    def __init__(self, processor: Processor) -> None:
        self.processor = processor
        self.settings = current_settings()

    def __call__(self, item: Item, *, training: bool = False, opened: ImageTensors | None = None) -> ImageTensors:
        """The model's arguments for each image, in `training` with `pixels` as the settings say, and with keys where
        features are kept.

        Those in `opened` are taken from there. Errors are those of `Processor.images`.
        """
        found = self.processor.images(item, pixels=self.settings.pixels if training else "exact", opened=opened)
        if training and self.settings.features == "cached":
            return {ref: image if opened and ref in opened else keyed(image) for ref, image in found.items()}
        return found


class TrainDataset(Dataset[list[EncodedSample]]):
    """Encodes items for training on the fly. The epoch lies in shared memory, so that living workers see it change.

    `split=True` gives the rounds of a conversation as separate examples, which a collator may put into one row.
    Where the `ImageSettings` say so, an item with an image that cannot be read gives its place to another, drawn from
    (`seed`, epoch, index).
    """

    def __init__(self, items: ItemDataset, processor: Processor, *, split: bool = False, seed: int = 0) -> None:
        self.items = items
        self.processor = processor
        self.origins = Origins(items)
        self.open = ImageLoader(processor)
        self.split = split
        self.seed = seed
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()

    @property
    def epoch(self) -> int:
        return int(self._epoch)

    def set_epoch(self, epoch: int) -> None:
        self._epoch.fill_(epoch)

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> list[EncodedSample]:
        """The examples of an item.

        Raises:
            ImageError: its image cannot be read, nor can those of its replacements, where there are any.
        """
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[list[EncodedSample]]:
        """Those of a batch, where the DataLoader asks for it: an image that several items show is opened once."""
        self.items.set_epoch(self.epoch)
        opened: dict[ImageRef, Mapping[str, Tensor]] = {}
        return [self._examples(index, opened) for index in indices]

    def _examples(self, index: int, opened: dict[ImageRef, Mapping[str, Tensor]]) -> list[EncodedSample]:
        """Of the item due, or the first of its replacements that can be read; and why those before it cannot."""
        rng = random.Random(f"replacement {self.seed} {self.epoch} {index}")
        skipped: list[str] = []
        while True:
            try:
                first, *rest = self._encoded(index, opened)
                return [replace(first, skipped=tuple(skipped)), *rest]
            except ImageError as error:
                skipped.append(str(error))
                if self.open.settings.on_error == "raise":
                    raise
                if len(skipped) > REPLACEMENTS:
                    reason = f"{skipped[0]}; nor could its {REPLACEMENTS} replacements be read"
                    raise ImageError(reason, kind=error.kind) from error
            index = rng.randrange(len(self.items))

    def _encoded(self, index: int, opened: dict[ImageRef, Mapping[str, Tensor]]) -> list[EncodedSample]:
        item = self.processor.fit_to_max_length(self.items[index])
        images = self.open(item, training=True, opened=opened)
        opened |= images
        items = split_rounds(item) if self.split else [item]
        source = self.origins(index)
        return [replace(self.processor.encode(each, index, images=images), source=source) for each in items]

    def lengths(self, index: int) -> tuple[tuple[ImageRef, ...], tuple[Length, ...]]:
        """The images of an item, unopened, and how long its examples will be; of one that cannot be read, none."""
        self.items.set_epoch(self.epoch)
        try:
            item = self.items[index]
            examples = split_rounds(item) if self.split else [item]
            return item.images, tuple(self.processor.length(each) for each in examples)
        except ImageError:  # who opens it says so, or takes another in its place
            return (), ()


class EvalItems:
    """The items of an evaluation, each built once: planning, encoding, decoding and the report read the same."""

    def __init__(self, items: ItemDataset) -> None:
        items.set_epoch(None)
        self.dataset = items
        self._built: dict[int, Item] = {}

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Item:
        if index not in self._built:
            self._built[index] = self.dataset[index]
        return self._built[index]

    def part(self, index: int) -> tuple[ItemDataset, int]:
        return self.dataset, index

    def set_epoch(self, epoch: int | None) -> None:
        assert epoch is None, "an evaluation draws nothing"


class EvalDataset(Dataset[list[EncodedSample]]):
    """Items of an evaluation by groups; an image that several items of a group have is opened once.

    `answer=False` gives prompts. Nothing is skipped: a score counts every item.
    """

    def __init__(
        self, items: ItemDataset, processor: Processor, groups: Sequence[Sequence[int]], *, answer: bool
    ) -> None:
        self.items = items
        self.processor = processor
        self.origins = Origins(items)
        self.open = ImageLoader(processor)
        self.groups = groups
        self.answer = answer

    def __len__(self) -> int:
        return len(self.groups)

    def __getitem__(self, number: int) -> list[EncodedSample]:
        self.items.set_epoch(None)
        items = {index: self.items[index] for index in self.groups[number]}
        images: ImageTensors = {}
        for item in items.values():
            images = {**images, **self.open(item, opened=images)}
        encoded = [
            self.processor.encode(item, index, answer=self.answer, images=images) for index, item in items.items()
        ]
        return [replace(example, source=self.origins(example.index)) for example in encoded]


class SeededEpochSampler(Sampler[int]):
    """A permutation of the dataset that follows from (seed, epoch) alone: equal on every rank, different each epoch.

    `shuffle=False` keeps the order of the dataset.
    """

    def __init__(self, dataset: TrainDataset, *, seed: int, shuffle: bool = True) -> None:
        self.dataset = dataset
        self.seed = seed
        self.shuffle = shuffle

    def __len__(self) -> int:
        return len(self.dataset)

    def __iter__(self) -> Iterator[int]:
        if not self.shuffle:
            return iter(range(len(self.dataset)))
        return iter(np.random.default_rng([self.seed, self.dataset.epoch]).permutation(len(self.dataset)).tolist())


def to_device(batch: dict[str, Any], device: torch.device) -> dict[str, Any]:
    return {name: value.to(device, non_blocking=True) for name, value in batch.items()}
