"""Conversations of several items: all questions about one image, or a row filled up with other items."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import accumulate
from pathlib import Path
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from mllm.dataset.base import LineDataset, seeded_rng
from mllm.dataset.files.derived import cached_array, probes
from mllm.dataset.files.jsonl import IndexedJsonl
from mllm.dataset.mixing import Source, build_datasets
from mllm.dataset.questions import without_image
from mllm.errors import ConfigError, DataError
from mllm.fields import PositiveInt, show
from mllm.images import ImageRef
from mllm.json_fields import ID, field
from mllm.registry import DATASETS
from mllm.time_spans import TimeSpan
from mllm.types import Box, Groups, Item, Point, Turn


@DATASETS.register_module()
class SamePicture:
    """The lines about the same image, wherever they are in the file, as conversations of up to `max_turns` questions.

    For training. `dataset` is a line dataset; lines belong together where their field `picture`, a name or a number, is
    the same. The order of an image's questions is drawn anew in every epoch; evaluation (epoch None) keeps that of the
    file.

    Raises:
        ConfigError: `dataset` does not read lines.
        DataError: a line without the field `picture`; on access: lines whose images differ, or without an answer.
    """

    def __init__(
        self,
        *,
        dataset: Source,
        max_turns: PositiveInt = 8,
        picture: str = "img_path",
        seed: int = 0,
    ) -> None:
        inner = build_datasets(dataset)
        if not isinstance(inner, LineDataset):
            raise ConfigError(field="dataset", expected="one that reads lines", found=type(inner).__name__)
        self.dataset = inner
        self.max_turns = max_turns
        self.seed = seed
        self.epoch: int | None = None
        images = _images_of(inner.lines, picture)
        if inner.kept is not None:
            images = np.unique(images[inner.kept], return_inverse=True)[1]
        self._items = np.argsort(images, kind="stable")  # indices of the dataset
        sizes = np.bincount(images)
        self._line_starts = np.concatenate([[0], np.cumsum(sizes)])  # [images + 1], positions in _items
        self._item_starts = np.concatenate([[0], np.cumsum(-(-sizes // max_turns))])  # [images + 1], our own indices

    def __len__(self) -> int:
        return int(self._item_starts[-1])

    def __getitem__(self, index: int) -> Item:
        if not 0 <= index < len(self):
            raise IndexError(f"SamePicture: item {index} of {len(self)}")
        image = int(np.searchsorted(self._item_starts, index, side="right")) - 1
        items = self._items[self._line_starts[image] : self._line_starts[image + 1]].tolist()
        if self.epoch is not None:
            seeded_rng(self.seed, self.epoch, image).shuffle(items)
        start = (index - int(self._item_starts[image])) * self.max_turns
        return merge_conversation([self.dataset[item] for item in items[start : start + self.max_turns]])

    def set_epoch(self, epoch: int | None) -> None:
        self.epoch = epoch
        self.dataset.set_epoch(epoch)


@DATASETS.register_module()
class MultiTurn:
    """Each item followed by others of the same dataset, drawn anew in every epoch, as turns of one conversation.

    For training: rows are filled up to `data_args.max_length` instead of padded, and the model learns to talk about
    several images. Evaluation asks the item alone.

    Args:
        dataset: a config, or a dataset already built. Mixed in proportions, its draws keep them.
        draws: at most so many further items; the rounds that `max_length` has no room for are left out again, and so
            are items with another system message.
        max_images: drawing ends at the first item with which there would be more images than this.
        seed: of the draws.

    Source: Chen et al. 2023, Visual Instruction Tuning with Polite Flamingo, arXiv 2307.01003. Their code cuts rows at
    `max_length` wherever that is, and stops one image before its `max_img`.
    """

    def __init__(
        self, *, dataset: Source, draws: PositiveInt, max_images: PositiveInt | None = None, seed: int = 0
    ) -> None:
        self.dataset = build_datasets(dataset)
        self.draws = draws
        self.max_images = max_images
        self.seed = seed
        self.epoch: int | None = None

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Item:
        items = [self.dataset[index]]
        if self.epoch is None:
            return items[0]
        rng = seeded_rng(self.seed, self.epoch, index)
        images = len(items[0].images)
        for _ in range(self.draws):
            drawn = self.dataset[rng.randrange(len(self.dataset))]
            if drawn.system != items[0].system:
                continue
            images += len(drawn.images)
            if self.max_images is not None and images > self.max_images:
                break
            items.append(drawn)
        return join_rounds(items)

    def set_epoch(self, epoch: int | None) -> None:
        self.epoch = epoch
        self.dataset.set_epoch(epoch)


def merge_conversation(items: Sequence[Item]) -> Item:
    """Items about the same images as one conversation: `<image>` stays in the first only, the truth is the last's.

    Raises:
        DataError: their images or system messages differ, or one has no answer.
    """
    first = items[0]
    for item in items:
        if item.images != first.images:
            expected = f"the image of {first.key}"
            raise DataError(where=item.key, expected=expected, found="another", kind="missing-record")
    texts = [[turn.text if item is first else without_image(turn.text) for turn in item.turns] for item in items]
    check_answered(items)
    check_system(items, first.system)
    return replace(chained(items, texts, first.images, [0] * len(items)), truth=items[-1].truth)


def join_rounds(items: Sequence[Item]) -> Item:
    """Items one after another, each with its images; all but the first are filling. The truth is the first's.

    Raises:
        DataError: one has no answer.
    """
    texts = [[turn.text for turn in item.turns] for item in items]
    before = [0, *accumulate(len(item.images) for item in items)][:-1]
    check_answered(items)
    whole = chained(items, texts, [ref for item in items for ref in item.images], before)
    return replace(whole, extra_rounds=sum(len(item.turns) for item in items[1:]) // 2)


def check_answered(items: Iterable[Item]) -> None:
    """Raises:
    DataError: one of them has no answer.
    """
    for item in items:
        if item.turns[-1].role != "gpt":
            expected = "an answer as the last turn"
            raise DataError(where=item.key, expected=expected, found="a question", kind="no-answer")


def check_system(items: Iterable[Item], *known: str | None) -> None:
    """Raises:
    DataError: one of them has a system message that is none of these, and a conversation has only one.
    """
    for item in items:
        if item.system not in known:
            expected = " or ".join("none" if system is None else show(system) for system in dict.fromkeys(known))
            raise DataError(
                where=item.key,
                field="system",
                expected=f"that of the other rounds of its conversation, {expected}",
                found="none" if item.system is None else show(item.system),
                kind="unsupported",
            )


def chained(
    items: Sequence[Item], texts: Sequence[Sequence[str]], images: Sequence[ImageRef], starts: Sequence[int]
) -> Item:
    """One conversation with these texts; the regions of each item lie on its images, counted from its start. Truth and
    system message are the first's."""
    turns: list[Turn] = []
    boxes: list[Box] = []
    points: list[Point] = []
    spans: list[TimeSpan] = []
    for item, words, shift in zip(items, texts, starts, strict=True):
        for turn, text in zip(item.turns, words, strict=True):
            groups = {
                "boxes_seq": _shifted(turn.boxes_seq, len(boxes)),
                "points_seq": _shifted(turn.points_seq, len(points)),
                "spans_seq": _shifted(turn.spans_seq, len(spans)),
            }
            image = None if turn.image is None else turn.image + shift
            turns.append(replace(turn, text=text, image=image, **groups))
        boxes += [replace(box, image=box.image + shift) for box in item.boxes]
        points += [replace(point, image=point.image + shift) for point in item.points]
        spans += item.time_spans
    return Item(
        key=items[0].key if len(items) == 1 else f"{items[0].key} and {len(items) - 1} more",
        images=tuple(images),
        turns=tuple(turns),
        boxes=tuple(boxes),
        points=tuple(points),
        time_spans=tuple(spans),
        truth=items[0].truth,
        system=items[0].system,
    )


def _shifted(groups: Groups, by: int) -> Groups:
    return tuple(tuple(index + by for index in group) for group in groups)


def _images_of(lines: IndexedJsonl, name: str) -> NDArray[np.int64]:
    """int64 [lines]: the image of each as a number, in the order of first appearance; on disk, not in memory."""
    suffix = ".".join(("", quote(name, safe=""), *(lines.entries or ()), "images.npy"))

    def fits(found: NDArray[np.int64]) -> bool:
        if found.shape != (len(lines),) or found[0] or found.min() or found.max() >= len(lines):
            return False
        pairs = {(int(found[number]), str(lines[number].get(name))) for number in probes(len(lines))}
        return len(pairs) == len({number for number, _ in pairs}) == len({image for _, image in pairs})

    return cached_array(Path(lines.path), suffix, "image names of lines", lambda: _numbered(lines, name), fits)


def _numbered(lines: IndexedJsonl, name: str) -> NDArray[np.int64]:
    numbers: dict[str | int, int] = {}
    images = np.empty(len(lines), np.int64)
    for index in range(len(lines)):
        line = lines[index]
        try:
            image: str | int = field(line, name, ID)
        except DataError as error:
            raise error.at(lines.where(index)) from error
        images[index] = numbers.setdefault(image, len(numbers))
    return images
