"""`mllm data check`: every line read, everything wrong named, and what the rows are like."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from mllm.conversation.processor import Processor, learned
from mllm.dataset.base import Dataset
from mllm.dataset.mixing import built
from mllm.errors import DataError, MllmError
from mllm.images import MemoryImage
from mllm.pipeline.inspection.faults import Fault, Looked, fault_of, look
from mllm.pipeline.inspection.splits import Config, Split, file_of, parts, place_of
from mllm.pipeline.inspection.words import words_faults
from mllm.pipeline.inspection.workers import in_order
from mllm.types import Item

BINS = 12
BAR = 40
"""Columns of the longest bar of the histogram."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """An item as the model reads it, in numbers of tokens."""

    key: str
    tokens: int
    of_pictures: int
    learned: int
    """Before `max_length` cuts."""
    cut: int
    """Learned ones that `max_length` cuts off."""
    boxes: int
    points: int
    pictures: tuple[str, ...]
    """What tells them from others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a worker sends back of one index."""

    looked: Looked | None
    row: Row | None
    faults: tuple[Fault, ...]


@dataclass(slots=True, kw_only=True)
class Summary:
    """What was read of a split."""

    split: Split
    max_length: int | None
    lengths: array[int] = field(default_factory=lambda: array("q"))
    files: dict[str, list[int]] = field(default_factory=dict[str, list[int]])
    """Of each annotation file: items, tokens, learned tokens."""
    of_pictures: int = 0
    learned: int = 0
    cut: int = 0
    cut_tokens: int = 0
    boxes: int = 0
    points: int = 0
    pictures: set[str] = field(default_factory=set[str])

    def add(self, row: Row) -> None:
        self.lengths.append(row.tokens)
        share = self.files.setdefault(file_of(row.key), [0, 0, 0])
        for number, value in enumerate((1, row.tokens, row.learned)):
            share[number] += value
        self.of_pictures += row.of_pictures
        self.learned += row.learned
        self.cut += bool(row.cut)
        self.cut_tokens += row.cut
        self.boxes += row.boxes
        self.points += row.points
        self.pictures.update(row.pictures)

    def text(self) -> str:
        if not self.lengths:
            return f"{self.split}: nothing could be read"
        title = (
            f"{self.split}: {_count(len(self.lengths), 'item')}, {_count(len(self.pictures), 'picture')}, "
            f"{_count(self.boxes, 'box', 'boxes')}, {_count(self.points, 'point')}"
        )
        total = sum(self.lengths)
        shortest, longest = min(self.lengths), max(self.lengths)
        middle, high = (int(np.percentile(np.asarray(self.lengths), share)) for share in (50, 95))
        lines = [
            title,
            f"  {total:,} tokens, {self.of_pictures / total:.0%} of pictures, {self.learned / total:.0%} learned; "
            f"an item has {shortest:,} to {longest:,}, half at most {middle:,}, 95 % at most {high:,}",
            *histogram(self.lengths, self.max_length),
        ]
        if self.max_length is not None:
            cut = f"{_count(self.cut, 'answer')} cut, by {_count(self.cut_tokens, 'token')} in all"
            lines.append(f"  max_length {self.max_length}: {cut if self.cut else 'no answer is cut'}")
        if len(self.files) > 1:
            lines += _shares(self.files)
        return "\n".join(lines)


@dataclass(slots=True, kw_only=True)
class Check:
    """The check of all splits of a config. `run` gives each fault once, in the order of the files."""

    splits: Sequence[Split]
    processor: Processor
    decode: bool = False
    workers: int | None = None
    summaries: list[Summary] = field(default_factory=list[Summary])
    kinds: Counter[str] = field(default_factory=Counter[str])
    _seen: set[tuple[str, str]] = field(default_factory=set[tuple[str, str]])

    def run(self) -> Iterator[Fault]:
        looked: list[Config | Dataset] = []
        for split in self.splits:
            inner = parts(split.cfg)
            alone = inner == [split.cfg]
            for part in [] if alone else inner:
                if part not in looked:
                    looked.append(part)
                    yield from self._new(self._read(part, split, None, look_too=True))
            look_too = alone and split.cfg not in looked
            if look_too:
                looked.append(split.cfg)
            summary = Summary(split=split, max_length=self.processor.max_length)
            self.summaries.append(summary)
            yield from self._new(self._read(split.cfg, split, summary, look_too=look_too))

    def text(self) -> str:
        faults = {kind: count for kind, count in self.kinds.items() if not self._warning(kind)}
        warnings = {kind: count for kind, count in self.kinds.items() if self._warning(kind)}
        lines = [summary.text() + "\n" for summary in self.summaries]
        lines.append(_total("fault", faults) if faults else "no faults")
        if warnings:
            lines.append(_total("warning", warnings))
        return "\n".join(lines)

    @property
    def failed(self) -> bool:
        return any(not self._warning(kind) for kind in self.kinds)

    @staticmethod
    def _warning(kind: str) -> bool:
        return Fault(where="", reason="", kind=kind).warning

    def _new(self, faults: Iterator[Fault]) -> Iterator[Fault]:
        """A line may be read by several splits, and by a mixture several times: what is wrong with it is said once."""
        for fault in faults:
            if (fault.where, fault.reason) not in self._seen:
                self._seen.add((fault.where, fault.reason))
                self.kinds[fault.kind] += 1
                yield fault

    def _read(self, cfg: Config | Dataset, split: Split, summary: Summary | None, *, look_too: bool) -> Iterator[Fault]:
        try:
            dataset = built(cfg)
        except DataError as error:
            yield fault_of(error, str(split))
            return
        dataset.set_epoch(split.epoch)
        read = _Reader(
            dataset,
            self.processor,
            look_too=look_too,
            decode=self.decode,
            count=summary is not None,
            evaluated=not split.training,
        )
        lines: dict[bytes, int] = {}
        names: dict[bytes, int] = {}
        every = in_order(range(len(dataset)), read, workers=self.workers, title=str(split))
        for index, found in enumerate(every):
            yield from found.faults
            if found.looked is not None:
                place = partial(place_of, dataset)
                yield from _repeated(found.looked, found.looked.line, lines, index, place, "duplicate-line")
                yield from _repeated(found.looked, found.looked.name, names, index, place, "duplicate-id")
            if found.row is not None and summary is not None:
                summary.add(found.row)


class _Reader:
    """Reads an index of a dataset in a worker."""

    def __init__(
        self, dataset: Any, processor: Processor, *, look_too: bool, decode: bool, count: bool, evaluated: bool
    ) -> None:
        self.dataset = dataset
        self.processor = processor
        self.look_too = look_too
        self.decode = decode
        self.count = count
        self.evaluated = evaluated

    def __call__(self, index: int) -> Found:
        looked = look(self.dataset, index, decode=self.decode)
        faults = list(looked.faults) if self.look_too else []
        if self.look_too and looked.item is not None and looked.sized:
            faults += words_faults(looked.item, self.processor, looked.where)
        row = None
        # what a fault of its pictures makes of an item is not known, and a mixture repeats what was said of its parts
        if self.count and looked.item is not None and looked.sized:
            row, more = self._row(looked.item, looked.where)
            outside = any(fault.kind.endswith("-outside") for fault in looked.faults)
            # what lies outside its image is not seen either: said once
            faults += [fault for fault in more if not (outside and fault.kind == "unseen-region")]
        elif self.count and looked.item is None and not self.look_too:
            faults += looked.faults
        light = None if not self.look_too else Looked(where=looked.where, line=looked.line, name=looked.name)
        return Found(looked=light, row=row, faults=tuple(faults))

    def _row(self, item: Item, where: str) -> tuple[Row | None, list[Fault]]:
        item = self.processor.fitted(item)
        try:
            if self.evaluated:
                self.processor.check_truth(item)
            found = self.processor.tokens(item)
        except MllmError as error:
            return None, [fault_of(error, where)]
        cut, kept, picture = found.cut, learned(found.labels), self.processor.image_token_id
        faults: list[Fault] = []
        if cut and not kept:
            reason = f"max_length: expected room for an answer, found all {cut} tokens of it cut off"
            faults.append(Fault(where=where, reason=reason, kind="unlearned"))
        elif cut:
            reason = f"max_length: {cut} of {kept + cut} tokens of the answer are cut off"
            faults.append(Fault(where=where, reason=reason, kind="cut-answer"))
        elif not kept:
            reason = "conversations: expected an answer to learn from, found none"
            faults.append(Fault(where=where, reason=reason, kind="unlearned"))
        row = Row(
            key=item.key,
            tokens=found.total,
            of_pictures=0 if picture is None else found.ids.count(picture),
            learned=kept + cut,
            cut=cut,
            boxes=len(item.boxes),
            points=len(item.points),
            pictures=tuple(
                f"{item.key} {number}" if isinstance(ref, MemoryImage) else repr(ref)
                for number, ref in enumerate(item.images)
            ),
        )
        return row, faults


def histogram(lengths: Sequence[int], max_length: int | None = None) -> list[str]:
    """Lines of bars, in steps of 1, 2 or 5 times a power of ten; `max_length` is marked in its bin."""
    low, high = min(lengths), max(lengths)
    step = next(
        step
        for power in range(12)
        for step in (10**power, 2 * 10**power, 5 * 10**power)
        if high // step - low // step < BINS
    )
    counts = Counter(length // step for length in lengths)
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


def _repeated(
    looked: Looked, digest: bytes | None, before: dict[bytes, int], index: int, place: Any, kind: str
) -> Iterator[Fault]:
    if digest is None:
        return
    first = before.setdefault(digest, index)
    if first != index:
        what = "the same line" if kind == "duplicate-line" else "id: the same"
        yield Fault(where=looked.where, reason=f"{what} as {place(first)}", kind=kind)


def _shares(files: Mapping[str, Sequence[int]]) -> list[str]:
    totals = [max(1, sum(share[number] for share in files.values())) for number in range(3)]
    width = max(map(len, files))
    lines = [f"  {'':{width}}  {'items':>18}{'tokens':>22}{'learned tokens':>22}"]
    for name, share in sorted(files.items(), key=lambda entry: -entry[1][0]):
        columns = [f"{value:,} ({value / total:6.1%})" for value, total in zip(share, totals, strict=True)]
        lines.append(f"  {name:{width}}  {columns[0]:>18}{columns[1]:>22}{columns[2]:>22}")
    return lines


def _total(what: str, kinds: Mapping[str, int]) -> str:
    named = ", ".join(f"{count:,} {kind}" for kind, count in sorted(kinds.items(), key=lambda entry: -entry[1]))
    return f"{_count(sum(kinds.values()), what)}: {named}"


def _count(number: int, one: str, many: str | None = None) -> str:
    return f"{number:,} {one if number == 1 else many or one + 's'}"
