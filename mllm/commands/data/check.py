"""`mllm data check`: every line read, everything wrong named, and what the rows are like."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property, partial
from pathlib import Path

from mllm.commands.data.faults import WARNINGS, Fault, fault_of, find_faults
from mllm.commands.data.identity import NO_KEY, identity, key64
from mllm.commands.data.tally import ItemLengths, Tally, quantity, summary
from mllm.commands.data.words import words_faults
from mllm.commands.data.workers import in_order
from mllm.commands.shards import WHOLE, Shard, new_part
from mllm.commands.shards import stage_parts as stored_parts
from mllm.conversation.processor import Processor, learned
from mllm.dataset.base import Dataset
from mllm.dataset.mixing import build_datasets
from mllm.errors import DataError, MllmError
from mllm.pipeline.splits import Config, Split, component_datasets, place_of
from mllm.types import Item


@dataclass(frozen=True, kw_only=True)
class OpenDataset:
    """A dataset that is read, for a split.

    Attributes:
        look_too: look at each line; of a mixture only its parts' lines are looked at.
        count: count what rows are like; of the parts of a mixture they are not counted.
    """

    cfg: Config | Dataset
    split: Split
    look_too: bool
    count: bool

    @cached_property
    def dataset(self) -> Dataset:
        """
        Raises:
            DataError: it cannot be opened.
        """
        dataset = build_datasets(self.cfg)
        dataset.set_epoch(self.split.epoch)
        return dataset

    def place(self, index: int) -> str:
        return place_of(self.dataset, index)


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedItem:
    """What a worker sends back of one index."""

    line: int = NO_KEY
    name: int = NO_KEY
    row: ItemLengths | None = None
    faults: tuple[Fault, ...] = ()


@dataclass(slots=True, kw_only=True)
class DataCheck:
    """The check of all splits of a config. `run` gives each fault once: in the order of the files, repeats behind."""

    splits: Sequence[Split]
    processor: Processor
    decode: bool = False
    workers: int | None = None
    stages: Sequence[str] = ("read",)
    summaries: list[str] = field(default_factory=list[str])
    kinds: Counter[str] = field(default_factory=Counter[str])
    _seen: set[bytes] = field(default_factory=set[bytes])

    def open(self) -> None:
        """Open all datasets, so that their indexes are made; one that cannot be opened is a fault, said later."""
        for reading in self._readings():
            try:
                len(reading.dataset)
            except DataError:
                continue

    def run(self) -> Iterator[Fault]:
        """Read everything in this process and its workers."""
        return self._faults(lambda number, reading, tally: self._read(reading, tally, WHOLE))

    def work(self, stage: str, shard: Shard, folder: Path) -> None:
        """Read a shard's part of each dataset: its faults, and what is counted."""
        with new_part(folder, stage, shard) as target:
            for number, reading in enumerate(self._readings()):
                place = target / str(number)
                place.mkdir()
                tally = Tally()
                with (place / "faults.jsonl").open("w", encoding="utf-8") as file:
                    for fault in self._read(reading, tally, shard):
                        file.write(json.dumps(asdict(fault)) + "\n")
                tally.save(place)

    def merged(self, folder: Path, shards: int) -> Iterator[Fault]:
        """As `run`, of parts that are all there.

        Raises:
            RunError: they are not, or the data have changed while they were read.
        """
        return self._faults(partial(self._stored, stored_parts(folder, "read", shards)))

    def text(self) -> str:
        faults = {kind: count for kind, count in self.kinds.items() if kind not in WARNINGS}
        warnings = {kind: count for kind, count in self.kinds.items() if kind in WARNINGS}
        lines = [text + "\n" for text in self.summaries]
        lines.append(_total("fault", faults) if faults else "no faults")
        if warnings:
            lines.append(_total("warning", warnings))
        return "\n".join(lines)

    @property
    def failed(self) -> bool:
        return any(kind not in WARNINGS for kind in self.kinds)

    def _readings(self) -> Iterator[OpenDataset]:
        looked: list[Config | Dataset] = []
        for split in self.splits:
            inner = component_datasets(split.cfg)
            alone = inner == [split.cfg]
            for part in [] if alone else inner:
                if part not in looked:
                    looked.append(part)
                    yield OpenDataset(cfg=part, split=split, look_too=True, count=False)
            look_too = alone and split.cfg not in looked
            if look_too:
                looked.append(split.cfg)
            yield OpenDataset(cfg=split.cfg, split=split, look_too=look_too, count=True)

    def _faults(self, read: Callable[[int, OpenDataset, Tally], Iterator[Fault]]) -> Iterator[Fault]:
        """`read` gives the faults of a reading, and fills its tally."""
        for number, reading in enumerate(self._readings()):
            tally = Tally()
            yield from self._new(read(number, reading, tally))
            yield from self._new(tally.repeats(reading.place))
            if reading.count:
                self.summaries.append(summary(reading.split, tally, self.processor.max_length))

    def _new(self, faults: Iterator[Fault]) -> Iterator[Fault]:
        """A line may be read by several splits, and by a mixture several times: what is wrong with it is said once."""
        for fault in faults:
            key = hashlib.blake2b(f"{fault.where}\0{fault.reason}".encode(), digest_size=12).digest()
            if key not in self._seen:
                self._seen.add(key)
                self.kinds[fault.kind] += 1
                yield fault

    def _read(self, reading: OpenDataset, tally: Tally, shard: Shard) -> Iterator[Fault]:
        try:
            dataset = reading.dataset
        except DataError as error:
            yield fault_of(error, str(reading.split))
            return
        tally.size = len(dataset)
        reader = IndexReader(reading, self.processor, decode=self.decode)
        for found in in_order(shard.of(len(dataset)), reader, workers=self.workers, title=str(reading.split)):
            yield from found.faults
            if reading.look_too:
                tally.lines.append(found.line)
                tally.names.append(found.name)
            if found.row is not None:
                tally.add(found.row)

    @staticmethod
    def _stored(folders: Sequence[Path], number: int, reading: OpenDataset, tally: Tally) -> Iterator[Fault]:
        for folder in folders:
            with (folder / str(number) / "faults.jsonl").open(encoding="utf-8") as file:
                yield from (Fault(**json.loads(line)) for line in file)
            tally.include(Tally.load(folder / str(number)))


class IndexReader:
    """Reads an index of a dataset in a worker."""

    def __init__(self, reading: OpenDataset, processor: Processor, *, decode: bool) -> None:
        self.dataset = reading.dataset
        self.look_too = reading.look_too
        self.count = reading.count
        self.evaluated = not reading.split.training
        self.processor = processor
        self.decode = decode

    def __call__(self, index: int) -> CheckedItem:
        looked = find_faults(self.dataset, index, decode=self.decode)
        faults = list(looked.faults) if self.look_too else []
        if self.look_too and looked.item is not None and looked.sized:
            faults += words_faults(looked.item, self.processor, looked.where)
        row = None
        # what a fault of its images makes of an item is not known, and a mixture repeats what was said of its parts
        if self.count and looked.item is not None and looked.sized:
            row, more = self._row(looked.item, looked.where)
            outside = any(fault.kind.endswith("-outside") for fault in looked.faults)
            # what lies outside its image is not seen either: said once
            faults += [fault for fault in more if not (outside and fault.kind == "unseen-region")]
        elif self.count and looked.item is None and not self.look_too:
            faults += looked.faults
        return CheckedItem(line=looked.line, name=looked.name, row=row, faults=tuple(faults))

    def _row(self, item: Item, where: str) -> tuple[ItemLengths | None, list[Fault]]:
        item = self.processor.fit_to_max_length(item)
        try:
            if self.evaluated:
                self.processor.check_truth(item)
            found = self.processor.tokens(item)
        except MllmError as error:
            return None, [fault_of(error, where)]
        cut, kept, image = found.cut, learned(found.labels), self.processor.feature_token_id
        faults: list[Fault] = []
        if cut and not kept:
            reason = f"max_length: expected room for an answer, found all {cut} tokens of it cut off"
            faults.append(Fault(where=where, reason=reason, kind="unlearned"))
        elif cut:
            reason = f"max_length: {cut} of {kept + cut} tokens of the answer are cut off"
            faults.append(Fault(where=where, reason=reason, kind="cut-answer"))
        elif not kept:
            reason = "conversations: expected an answer to train on, found none"
            faults.append(Fault(where=where, reason=reason, kind="unlearned"))
        row = ItemLengths(
            key=item.key,
            tokens=found.total,
            of_images=0 if image is None else found.ids.count(image),
            learned=kept + cut,
            cut=cut,
            boxes=len(item.boxes),
            points=len(item.points),
            spans=len(item.time_spans),
            images=tuple(key64(identity(ref, item, number)) for number, ref in enumerate(item.images)),
        )
        return row, faults


def _total(what: str, kinds: Mapping[str, int]) -> str:
    named = ", ".join(f"{count:,} {kind}" for kind, count in sorted(kinds.items(), key=lambda entry: -entry[1]))
    return f"{quantity(sum(kinds.values()), what)}: {named}"
