"""Several examples in one row without padding, and those about the same images as one tree of their tokens.

A segment of a row is a whole example, or a node of a prefix tree: it sees the segments that it continues and itself,
and its positions go on from them. Loss and gradients are those of the examples one by one; images are read once.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, takewhile
from typing import TYPE_CHECKING

from mllm.conversation.prefix_tree import Segment, leaves, prefix_tree
from mllm.conversation.rendering import IGNORE
from mllm.errors import DataError
from mllm.images import ImageRef
from mllm.types import IMAGE, EncodedSample, Item

if TYPE_CHECKING:  # `data check` reads lengths without PyTorch, whose import takes seconds
    from torch import Tensor

PADDING = NO_PREFIX = -1
LEADING_IMAGES = re.compile(rf"(?:\s*{IMAGE})+\n?")


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedRow:
    """Examples in one row of T tokens; all int64 [T]."""

    input_ids: Tensor
    labels: Tensor
    position_ids: Tensor
    segment_ids: Tensor
    """Segments, numbered from 0 in the order of the row; what continues a segment comes behind it, depth first."""
    prefix_ids: Tensor
    """The segment that this one continues, its parent; NO_PREFIX where it begins an example."""

    def __len__(self) -> int:
        return len(self.input_ids)


@dataclass(frozen=True, slots=True, kw_only=True)
class Length:
    """Of a labelled example in tokens, as far as it is known without pixels."""

    tokens: int
    images: int = 0
    """Those that stand for images."""
    shared: int = 0
    """Those up to its last image, where others can begin with the same; else 0."""
    beginning: tuple[int, ...] = ()
    """The ids of those, one for each image."""
    question: tuple[int, ...] = ()
    """The ids behind them that others may share; empty where they are not known."""


def split_rounds(item: Item) -> list[Item]:
    """The rounds of a conversation as items of their own, each with the images of the first.

    Only where no round needs the ones before it, as in the conversations of `Scenes` and `SamePicture`. Images that
    do not come first stay where they are in the first round, and come first in the others.

    Raises:
        DataError: a later round has images of its own.
    """
    found = item.turns[0].text.count(IMAGE)
    if found != len(item.images):
        raise DataError(
            "packing 'shared' separates the rounds of a conversation",
            where=item.key,
            expected=f"all {len(item.images)} {IMAGE} in the first question",
            found=str(found),
            kind="unsupported",
        )
    leading = _leading(item)
    if leading is None:
        leading = f"{IMAGE}\n" * len(item.images)
    rounds = [item.turns[start : start + 2] for start in range(0, len(item.turns), 2)]
    return [
        replace(item, turns=turns if number == 0 else (replace(turns[0], text=leading + turns[0].text), *turns[1:]))
        for number, turns in enumerate(rounds)
    ]


def groups(items: Iterable[Item], size: int, *, demonstrated: bool = False) -> list[list[int]]:
    """Indices of items with the same images, at most `size` together, in the order of the first of each group.

    Items without images, and those whose images do not come first, stay alone. With `demonstrated` those behind the
    same demonstrations are together, whatever their own images are.
    """
    found: list[list[int]] = []
    open_groups: dict[tuple[ImageRef | str, ...], list[int]] = {}
    for index, item in enumerate(items):
        leads = bool(item.images) and _leading(item) is not None
        key: tuple[ImageRef | str, ...] = item.images
        if demonstrated and item.demonstrated_images:
            leads, key = True, item.demonstrations
        group = open_groups.get(key)
        if group is None or len(group) == size or not leads:
            group = []
            found.append(group)
            if leads:
                open_groups[key] = group
        group.append(index)
    return found


def prefix_and_suffixes(examples: Sequence[EncodedSample]) -> tuple[Tensor, list[Tensor], int]:
    """Prompts that begin alike: int64 [P] that all begin with, the int64 [S] that is left of each, S >= 1, and how
    many of the images, which all have, are in the beginning."""
    shared = len(_beginning([example.input_ids[:-1] for example in examples]))
    shortest = min(len(example.images) for example in examples)
    alike = (len({example.images[number] for example in examples}) == 1 for number in range(shortest))
    common = sum(takewhile(bool, alike))
    for example in examples:
        if len(example.images) > common:  # the tokens of different images are the same
            shared = min(shared, example.image_starts[common])
    inside = sum(start < shared for start in examples[0].image_starts)
    return examples[0].input_ids[:shared], [example.input_ids[shared:] for example in examples], inside


def group_by_image(entries: Iterable[Sequence[EncodedSample]], room: int | None) -> list[list[EncodedSample]]:
    """Labelled examples that begin with the same images and the same words before them, in one group each; without
    images, those of one entry.

    A group makes a tree of at most `room` tokens, see `prefix_tree_row`. Groups are in the order of their first
    examples; in a group, examples with a longer common beginning are neighbours. Examples whose answer comes right
    behind the images stay alone.
    """
    alike: dict[object, list[EncodedSample]] = {}
    for number, entry in enumerate(entries):
        for place, example in enumerate(entry):
            end = example.images_end
            if not example.images:
                key = number
            elif shareable(labels_of(example).tolist()) < end:
                key = number, place
            else:
                key = example.images, example.input_ids[:end].numpy().tobytes()
            alike.setdefault(key, []).append(example)
    return [group for examples in alike.values() for group in _fitting(examples, room)]


def _fitting(examples: Sequence[EncodedSample], room: int | None) -> list[list[EncodedSample]]:
    """The examples of a tree in its order, cut where a tree would be longer than `room`."""
    if len(examples) == 1:
        return [[*examples]]
    lengths = [len(example.input_ids) for example in examples]
    rest = [examples[number] for number in leaves(_tree(examples), lengths)]
    found: list[list[EncodedSample]] = []
    while rest:
        counts = range(1, len(rest) + 1)
        fits = len(rest) if room is None else bisect_right(counts, room, key=lambda n: sum(map(len, _tree(rest[:n]))))
        found.append(rest[: max(fits, 1)])
        rest = rest[max(fits, 1) :]
    return found


def prefix_tree_row(examples: Sequence[EncodedSample]) -> PackedRow:
    """One row for labelled examples of a group: the tree of what they have in common, depth first.

    A common beginning ends before the last token that no example supervises: what a branch learns is predicted from
    within. So all labels are in segments that belong to one example.
    """
    import torch

    tree = _tree(examples)
    sizes = torch.tensor([len(segment) for segment in tree])
    parents = torch.tensor([NO_PREFIX if segment.parent is None else segment.parent for segment in tree])
    return PackedRow(
        input_ids=torch.cat([examples[each.example].input_ids[each.start : each.stop] for each in tree]),
        labels=torch.cat([labels_of(examples[each.example])[each.start : each.stop] for each in tree]),
        position_ids=torch.cat([torch.arange(each.start, each.stop) for each in tree]),
        segment_ids=torch.repeat_interleave(sizes),
        prefix_ids=torch.repeat_interleave(parents, sizes),
    )


def _tree(examples: Sequence[EncodedSample]) -> list[Segment]:
    lengths = [len(example.input_ids) for example in examples]
    if len(examples) == 1:
        return [Segment(0, 0, lengths[0], None)]
    head = examples[0].images_end
    ends = [shareable(labels_of(example).tolist()) for example in examples]
    prompts = [example.input_ids[head:end].tolist() for example, end in zip(examples, ends, strict=True)]
    return prefix_tree(prompts, lengths, head=head)


def shareable(labels: Sequence[int]) -> int:
    """How many tokens others may share: those up to the last but one before the first label."""
    return max(0, next((place for place, label in enumerate(labels) if label != IGNORE), len(labels)) - 1)


def concatenate(rows: Sequence[PackedRow]) -> PackedRow:
    """Rows one after the other in one; none sees another."""
    import torch

    counts = [int(row.segment_ids.max()) + 1 for row in rows]
    offsets = [0, *accumulate(counts)]
    return PackedRow(
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


def bin_pack(lengths: Sequence[int], room: int | None) -> list[list[int]]:
    """Which pieces go together so that none of the rows is longer than `room`: the longest first, where it fits best.

    Then spread over as many rows, where that makes the longest shorter. A piece longer than `room` has a row of its
    own. None: all in one row.
    """
    if room is None:
        return [list(range(len(lengths)))]
    longest_first = sorted(range(len(lengths)), key=lambda number: -lengths[number])
    rows: list[list[int]] = []
    left: list[int] = []
    for piece in longest_first:
        fitting = [row for row in range(len(rows)) if lengths[piece] <= left[row]]
        if fitting:
            row = min(fitting, key=lambda number: left[number])
        else:
            row = len(rows)
            rows.append([])
            left.append(room)
        rows[row].append(piece)
        left[row] -= lengths[piece]
    even: list[list[int]] = [[] for _ in rows]
    used = [0] * len(rows)
    for piece in longest_first:
        row = min(range(len(rows)), key=lambda number: used[number])
        even[row].append(piece)
        used[row] += lengths[piece]
    return [sorted(row) for row in (even if max(used) < room - min(left) else rows)]


def labels_of(example: EncodedSample) -> Tensor:
    assert example.labels is not None, f"{example.key}: a prompt among labelled examples"
    return example.labels


def _beginning(rows: Sequence[Tensor]) -> Tensor:
    """What all rows begin with."""
    common = rows[0]
    for row in rows[1:]:
        length = min(len(common), len(row))
        different = (common[:length] != row[:length]).nonzero()
        common = common[: int(different[0]) if len(different) else length]
    return common


def _leading(item: Item) -> str | None:
    """How the first question begins: with all images, or "" where there are none; None: they stand elsewhere."""
    images = LEADING_IMAGES.match(item.turns[0].text)
    leading = images[0] if images else ""
    return leading if leading.count(IMAGE) == len(item.images) else None
