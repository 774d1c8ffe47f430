"""Several examples in one row without padding, and questions about the same pictures behind one copy of their tokens.

A stretch of a row is a whole example, or a prefix, or a branch: a branch sees its prefix and itself, and its positions
continue from the prefix. Loss and gradients are those of the examples one by one; pictures are read once.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

import torch
from torch import Tensor

from mllm.conversation.rendering import IGNORE
from mllm.errors import DataError
from mllm.images import ImageRef
from mllm.types import IMAGE, Example, Item

PADDING = NO_PREFIX = -1
LEADING_PICTURES = re.compile(rf"(?:\s*{IMAGE})+\n?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Examples in one row of T tokens; all int64 [T]."""

    input_ids: Tensor
    labels: Tensor
    position_ids: Tensor
    segment_ids: Tensor
    """Prefixes and branches, numbered from 0 in the order of the row."""
    prefix_ids: Tensor
    """The segment of the prefix that a branch continues, NO_PREFIX elsewhere."""

    def __len__(self) -> int:
        return len(self.input_ids)


def questions(item: Item) -> list[Item]:
    """The rounds of a conversation as items of their own, each with the pictures of the first.

    Only where no round needs the ones before it, as in the conversations of `Scenes` and `SamePicture`.

    Raises:
        DataError: the pictures do not come first.
    """
    pictures = LEADING_PICTURES.match(item.turns[0].text)
    leading = pictures[0] if pictures else ""
    if leading.count(IMAGE) != len(item.images):
        raise DataError(f"{item.key}: sharing pictures needs {IMAGE} at the beginning of the first question")
    rounds = [item.turns[start : start + 2] for start in range(0, len(item.turns), 2)]
    return [
        replace(item, turns=turns if number == 0 else (replace(turns[0], text=leading + turns[0].text), *turns[1:]))
        for number, turns in enumerate(rounds)
    ]


def groups(items: Iterable[Item], size: int) -> list[list[int]]:
    """Indices of items with the same pictures, at most `size` together, in the order of the first of each group.

    Items without pictures, and those whose pictures do not come first, stay alone.
    """
    found: list[list[int]] = []
    open_groups: dict[tuple[ImageRef, ...], list[int]] = {}
    for index, item in enumerate(items):
        leads = bool(item.images) and _pictures_lead(item)
        group = open_groups.get(item.images)
        if group is None or len(group) == size or not leads:
            group = []
            found.append(group)
            if leads:
                open_groups[item.images] = group
        group.append(index)
    return found


def branch(examples: Sequence[Example]) -> tuple[Tensor, list[Tensor]]:
    """Prompts with the same pictures: int64 [P] that all begin with, and the int64 [S] that is left of each, S >= 1."""
    ids = [example.input_ids.tolist() for example in examples]
    shared = _common(ids, min(map(len, ids)) - 1)
    return examples[0].input_ids[:shared], [example.input_ids[shared:] for example in examples]


def share(examples: Sequence[Example]) -> Row:
    """One row for labelled examples with the same pictures; their longest common beginning is its prefix.

    The prefix ends before the last token that no example supervises: what a branch learns is predicted from within.
    """
    ids = [example.input_ids.tolist() for example in examples]
    labels = [_labels(example) for example in examples]
    shared = _shared_length(ids, labels) if len(examples) > 1 else 0
    row_ids, row_labels = ids[0][:shared], [IGNORE] * shared
    positions, segments, prefixes = list(range(shared)), [0] * shared, [NO_PREFIX] * shared
    for branch, (tokens, targets) in enumerate(zip(ids, labels, strict=True), start=int(shared > 0)):
        row_ids += tokens[shared:]
        row_labels += targets[shared:]
        positions += range(shared, len(tokens))
        segments += [branch] * (len(tokens) - shared)
        prefixes += [0 if shared else NO_PREFIX] * (len(tokens) - shared)
    return Row(
        input_ids=torch.tensor(row_ids),
        labels=torch.tensor(row_labels),
        position_ids=torch.tensor(positions),
        segment_ids=torch.tensor(segments),
        prefix_ids=torch.tensor(prefixes),
    )


def join(rows: Sequence[Row]) -> Row:
    """Rows one after the other in one; none sees another."""
    counts = [int(row.segment_ids.max()) + 1 for row in rows]
    offsets = [0, *accumulate(counts)]
    return Row(
        input_ids=torch.cat([row.input_ids for row in rows]),
        labels=torch.cat([row.labels for row in rows]),
        position_ids=torch.cat([row.position_ids for row in rows]),
        segment_ids=torch.cat([row.segment_ids + offset for row, offset in zip(rows, offsets, strict=False)]),
        prefix_ids=torch.cat(
            [
                torch.where(row.prefix_ids == NO_PREFIX, NO_PREFIX, row.prefix_ids + offset)
                for row, offset in zip(rows, offsets, strict=False)
            ]
        ),
    )


def fill(lengths: Sequence[int], room: int | None) -> list[list[int]]:
    """Which pieces go together so that none of the rows is longer than `room`: the longest first, where it fits best.

    A piece longer than that has a row of its own. None: all in one row.
    """
    if room is None:
        return [list(range(len(lengths)))]
    rows: list[list[int]] = []
    left: list[int] = []
    for piece in sorted(range(len(lengths)), key=lambda number: -lengths[number]):
        fitting = [row for row in range(len(rows)) if lengths[piece] <= left[row]]
        if fitting:
            row = min(fitting, key=lambda number: left[number])
        else:
            row = len(rows)
            rows.append([])
            left.append(room)
        rows[row].append(piece)
        left[row] -= lengths[piece]
    return [sorted(row) for row in rows]


def _shared_length(ids: Sequence[list[int]], labels: Sequence[list[int]]) -> int:
    supervised = [next((n for n, label in enumerate(row) if label != IGNORE), len(row)) for row in labels]
    return _common(ids, min(supervised) - 1)


def _common(ids: Sequence[list[int]], bound: int) -> int:
    """How many tokens all rows begin with, at most `bound`."""
    for position in range(max(bound, 0)):
        if len({row[position] for row in ids}) > 1:
            return position
    return max(bound, 0)


def _pictures_lead(item: Item) -> bool:
    leading = LEADING_PICTURES.match(item.turns[0].text)
    return (leading[0].count(IMAGE) if leading else 0) == len(item.images)


def _labels(example: Example) -> list[int]:
    assert example.labels is not None, f"{example.key}: a prompt among labelled examples"
    return example.labels.tolist()
