"""What `mllm data check` counts: numbers that may be taken of parts of a dataset and added up."""

from __future__ import annotations

import json
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mllm.commands.data.faults import Fault
from mllm.commands.data.identity import NO_KEY
from mllm.errors import RunError
from mllm.pipeline.splits import Split, file_of

BINS = 12
BAR = 40
"""Columns of the longest bar of the histogram."""

_ARRAYS = ("lengths", "images", "lines", "names")
_NUMBERS = ("size", "of_images", "learned", "cut", "cut_tokens", "boxes", "points", "spans")


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemLengths:
    """An item as the model reads it, in numbers of tokens."""

    key: str
    tokens: int
    of_images: int
    learned: int
    """Before `max_length` cuts."""
    cut: int
    """Learned ones that `max_length` cuts off."""
    boxes: int
    points: int
    spans: int
    images: tuple[int, ...]
    """Keys of 64 bits that tell them from others."""


@dataclass(slots=True, kw_only=True)
class Tally:
    """Of a dataset, or of a part of its items.

    Attributes:
        size: items of the whole dataset; None where it cannot be opened.
        lengths: tokens of each item that can be read.
        images: a key of each image of these.
        lines: a key of each item's line, where lines are looked at; `names`: of its id.
        files: of each annotation file items, tokens, learned tokens.
    """

    size: int | None = None
    lengths: array[int] = field(default_factory=lambda: array("q"))
    images: array[int] = field(default_factory=lambda: array("Q"))
    lines: array[int] = field(default_factory=lambda: array("Q"))
    names: array[int] = field(default_factory=lambda: array("Q"))
    files: dict[str, list[int]] = field(default_factory=dict[str, list[int]])
    of_images: int = 0
    learned: int = 0
    cut: int = 0
    cut_tokens: int = 0
    boxes: int = 0
    points: int = 0
    spans: int = 0

    def add(self, row: ItemLengths) -> None:
        self.lengths.append(row.tokens)
        self.images.extend(row.images)
        self._share(file_of(row.key), (1, row.tokens, row.learned))
        self.of_images += row.of_images
        self.learned += row.learned
        self.cut += bool(row.cut)
        self.cut_tokens += row.cut
        self.boxes += row.boxes
        self.points += row.points
        self.spans += row.spans

    def _share(self, file: str, values: Sequence[int]) -> None:
        share = self.files.setdefault(file, [0, 0, 0])
        for number, value in enumerate(values):
            share[number] += value

    def include(self, other: Tally) -> None:
        """Add what was counted of the items that follow.

        Raises:
            RunError: the dataset was of another size there.
        """
        if self.size is None:
            self.size = other.size
        if other.size != self.size:
            raise RunError(
                "the dataset changed while it was read", expected=f"{self.size} items", found=str(other.size)
            )
        for name in _ARRAYS:
            getattr(self, name).extend(getattr(other, name))
        for file, values in other.files.items():
            self._share(file, values)
        for name in _NUMBERS[1:]:
            setattr(self, name, getattr(self, name) + getattr(other, name))

    def save(self, folder: Path) -> None:
        arrays = {name: np.frombuffer(getattr(self, name), getattr(self, name).typecode) for name in _ARRAYS}
        np.savez(folder / "arrays.npz", **arrays)  # pyright: ignore[reportArgumentType]
        numbers = {name: getattr(self, name) for name in (*_NUMBERS, "files")}
        (folder / "numbers.json").write_text(json.dumps(numbers), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Tally:
        found = cls(**json.loads((folder / "numbers.json").read_text(encoding="utf-8")))
        with np.load(folder / "arrays.npz") as arrays:
            for name in _ARRAYS:
                getattr(found, name).frombytes(arrays[name].tobytes())
        return found

    def repeats(self, place: Callable[[int], str]) -> Iterator[Fault]:
        """A warning for each line and each id that stands in the dataset before, in the order of the items.

        `place` says where an item comes from.
        """
        lines, names = (_before(np.frombuffer(keys, np.uint64)) for keys in (self.lines, self.names))
        for index in sorted({*lines, *names}):
            if index in lines:
                reason = f"the same line as {place(lines[index])}"
                yield Fault(where=place(index), reason=reason, kind="duplicate-line")
            if index in names:
                reason = f"id: the same as {place(names[index])}"
                yield Fault(where=place(index), reason=reason, kind="duplicate-id")


def _before(keys: NDArray[np.uint64]) -> dict[int, int]:
    """Of each entry whose key stands before: the first with this key."""
    order = np.argsort(keys, kind="stable")
    ranked = keys[order]
    new = np.append(True, ranked[1:] != ranked[:-1]) if len(keys) else np.empty(0, bool)
    again = ~new & (ranked != NO_KEY)
    firsts = order[np.flatnonzero(new)][np.cumsum(new) - 1]
    return dict(zip(order[again].tolist(), firsts[again].tolist(), strict=True))


def summary(split: Split, found: Tally, max_length: int | None) -> str:
    """What was read of a split, in lines of text."""
    if not found.lengths:
        return f"{split}: nothing could be read"
    lengths = np.frombuffer(found.lengths, np.int64)
    images = len(np.unique(np.frombuffer(found.images, np.uint64)))
    title = (
        f"{split}: {quantity(len(lengths), 'item')}, {quantity(images, 'image')}, "
        f"{quantity(found.boxes, 'box', 'boxes')}, {quantity(found.points, 'point')}"
        + (f", {quantity(found.spans, 'time span')}" if found.spans else "")
    )
    total = int(lengths.sum())
    middle, high = (int(np.percentile(lengths, share)) for share in (50, 95))
    lines = [
        title,
        f"  {total:,} tokens, {found.of_images / total:.0%} of images, {found.learned / total:.0%} learned; "
        f"an item has {lengths.min():,} to {lengths.max():,}, half at most {middle:,}, 95 % at most {high:,}",
        *histogram(lengths, max_length),
    ]
    if max_length is not None:
        cut = f"{quantity(found.cut, 'answer')} cut, by {quantity(found.cut_tokens, 'token')} in all"
        lines.append(f"  max_length {max_length}: {cut if found.cut else 'no answer is cut'}")
    if len(found.files) > 1:
        lines += _shares(found.files)
    return "\n".join(lines)


def histogram(lengths: Sequence[int] | NDArray[Any], max_length: int | None = None) -> list[str]:
    """Lines of bars, in steps of 1, 2 or 5 times a power of ten; `max_length` is marked in its bin."""
    low, high = int(min(lengths)), int(max(lengths))
    step = next(
        step
        for power in range(12)
        for step in (10**power, 2 * 10**power, 5 * 10**power)
        if high // step - low // step < BINS
    )
    bins, heights = np.unique(np.asarray(lengths) // step, return_counts=True)
    counts = Counter(dict(zip(bins.tolist(), heights.tolist(), strict=True)))
    tallest = max(counts.values())
    width = len(f"{high:,}") + 1
    lines: list[str] = []
    for number in range(low // step, high // step + 1):
        first, last = number * step, number * step + step - 1
        name = f"{first:>{width},}" if step == 1 else f"{first:>{width},} to {last:>{width},}"
        bar = "█" * -(-BAR * counts[number] // tallest)
        mark = "  <- max_length" if max_length is not None and first <= max_length <= last else ""
        lines.append(f"  {name}  {bar} {counts[number]:,}{mark}")
    return lines


def _shares(files: Mapping[str, Sequence[int]]) -> list[str]:
    totals = [max(1, sum(share[number] for share in files.values())) for number in range(3)]
    width = max(map(len, files))
    lines = [f"  {'':{width}}  {'items':>18}{'tokens':>22}{'learned tokens':>22}"]
    for name, share in sorted(files.items(), key=lambda entry: -entry[1][0]):
        columns = [f"{value:,} ({value / total:6.1%})" for value, total in zip(share, totals, strict=True)]
        lines.append(f"  {name:{width}}  {columns[0]:>18}{columns[1]:>22}{columns[2]:>22}")
    return lines


def quantity(number: int, one: str, many: str | None = None) -> str:
    """`2 boxes`."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"
