"""Questions about one picture as one conversation: the picture's tokens are paid for once."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from mllm.dataset.base import Dataset, LineDataset, field, seeded
from mllm.dataset.mixing import built
from mllm.dataset.questions import without_image
from mllm.errors import ConfigError, DataError
from mllm.registry import DATASETS
from mllm.types import Groups, Item, Turn


@DATASETS.register_module()
class SamePicture:
    """The lines of one picture, wherever they stand in the file, as conversations of up to `max_turns` questions.

    For training. `dataset` is a line dataset; lines belong together where their field `picture` is the same. The order
    of a picture's questions is drawn anew in every epoch; evaluation (epoch None) keeps that of the file.

    Raises:
        ConfigError: `dataset` does not read lines.
        DataError: a line without the field `picture`; on access: lines whose pictures differ, or without an answer.
    """

    def __init__(
        self,
        *,
        dataset: Mapping[str, Any] | Dataset,
        max_turns: int = 8,
        picture: str = "img_path",
        seed: int = 0,
    ) -> None:
        inner = built(dataset)
        if not isinstance(inner, LineDataset):
            raise ConfigError(f"SamePicture: dataset: expected one that reads lines, found {type(inner).__name__}")
        if max_turns < 1:
            raise ConfigError(f"SamePicture: max_turns: expected at least 1, found {max_turns}")
        self.dataset = inner
        self.max_turns = max_turns
        self.seed = seed
        self.epoch: int | None = None
        pictures = _numbered_pictures(inner, picture)
        self._lines = np.argsort(pictures, kind="stable")
        sizes = np.bincount(pictures)
        self._line_starts = np.concatenate([[0], np.cumsum(sizes)])  # [pictures + 1], positions in _lines
        self._item_starts = np.concatenate([[0], np.cumsum(-(-sizes // max_turns))])  # [pictures + 1], our own indices

    def __len__(self) -> int:
        return int(self._item_starts[-1])

    def __getitem__(self, index: int) -> Item:
        if not 0 <= index < len(self):
            raise IndexError(f"SamePicture: item {index} of {len(self)}")
        picture = int(np.searchsorted(self._item_starts, index, side="right")) - 1
        lines = self._lines[self._line_starts[picture] : self._line_starts[picture + 1]].tolist()
        if self.epoch is not None:
            seeded(self.seed, self.epoch, picture).shuffle(lines)
        start = (index - int(self._item_starts[picture])) * self.max_turns
        return merged([self.dataset[line] for line in lines[start : start + self.max_turns]])

    def set_epoch(self, epoch: int | None) -> None:
        self.epoch = epoch
        self.dataset.set_epoch(epoch)


def merged(items: Sequence[Item]) -> Item:
    """Items about the same pictures as one conversation: `<image>` stays in the first only, the truth is the last's.

    Raises:
        DataError: their pictures differ, or one has no answer.
    """
    first = items[0]
    turns: list[Turn] = []
    boxes, points = 0, 0
    for item in items:
        if item.images != first.images:
            raise DataError(f"{item.key}: expected the picture of {first.key}, found another")
        if item.turns[-1].role != "gpt":
            raise DataError(f"{item.key}: expected an answer as the last turn, found a question")
        for turn in item.turns:
            turns.append(
                replace(
                    turn,
                    text=turn.text if item is first else without_image(turn.text),
                    boxes_seq=_shifted(turn.boxes_seq, boxes),
                    points_seq=_shifted(turn.points_seq, points),
                )
            )
        boxes += len(item.boxes)
        points += len(item.points)
    return Item(
        key=first.key if len(items) == 1 else f"{first.key} and {len(items) - 1} more",
        images=first.images,
        turns=tuple(turns),
        boxes=tuple(box for item in items for box in item.boxes),
        points=tuple(point for item in items for point in item.points),
        truth=items[-1].truth,
    )


def _shifted(groups: Groups, by: int) -> Groups:
    return tuple(tuple(index + by for index in group) for group in groups)


def _numbered_pictures(dataset: LineDataset, name: str) -> array[int]:
    """The picture of each line as a number, counted in the order of first appearance."""
    numbers: dict[str, int] = {}
    pictures = array("q")
    for index in range(len(dataset.lines)):
        line = dataset.lines[index]
        try:
            picture = field(line, name, str)
        except DataError as error:
            raise DataError(f"{dataset.lines.where(index)}: {error}") from error
        pictures.append(numbers.setdefault(picture, len(numbers)))
    return pictures
