"""The base of datasets: a file of annotation lines -> Items, the same for every worker, rank and run.

A dataset of your own is one method:

    @DATASETS.register_module()
    class Birds(LineDataset):
        def record(self, line, rng):
            return {
                "image": line["file"],
                "target": {"boxes": [line["box"]]},
                "conversations": [
                    {"from": "human", "value": "<image>\nWhere is the bird?"},
                    {"from": "gpt", "value": "<boxes>", "boxes_seq": [[0]]},
                ],
            }
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from mllm.conversation.convention import ConventionConfig, read_convention
from mllm.conversation.region_conversion import lift_item
from mllm.dataset.files.jsonl import IndexedJsonl
from mllm.errors import DataError
from mllm.fields import PathName, in_field
from mllm.json_fields import describe_absent
from mllm.records import read_item
from mllm.types import Item


@runtime_checkable
class Dataset(Protocol):
    """What training and evaluation read. `set_epoch(None)`, the initial state, is evaluation: nothing is random."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Item: ...

    def set_epoch(self, epoch: int | None) -> None: ...


class LineDataset:
    """One Item per record of an annotation file; override `record`.

    Args:
        filename: a `.jsonl` or `.json` file.
        image_folder: prefix of the relative image paths in the lines.
        seed: random choices depend on it, the epoch and the index.
        entries: the keys that lead to the records in a `.json` file, see `IndexedJsonl`; not used for `.jsonl`.
        regions: the convention of boxes and points in the words, which then become typed, see `read_convention`.
    """

    def __init__(
        self,
        *,
        filename: PathName,
        image_folder: str | None = None,
        seed: int = 0,
        entries: Sequence[str] | None = None,
        regions: ConventionConfig | None = None,
    ) -> None:
        self.lines = IndexedJsonl(filename, None if filename.endswith(".jsonl") else entries)
        self.image_folder = image_folder
        self.seed = seed
        self.convention = None if regions is None else in_field("regions", read_convention, regions)
        self.epoch: int | None = None
        self.kept: list[int] | None = None
        """The line numbers of the items, if `keep` left some lines out."""

    def __len__(self) -> int:
        return len(self.lines) if self.kept is None else len(self.kept)

    def keep(self, wanted: Callable[[dict[str, Any]], bool]) -> None:
        """Keep only the wanted lines; reads all of them once. An unreadable line is kept, and raises on access.

        Raises:
            DataError: raised by `wanted`; names file and line.
        """

        def is_kept(number: int) -> bool:
            try:
                line = self.lines[number]
            except DataError:
                return True
            try:
                return wanted(line)
            except DataError as error:
                raise error.at(self.lines.where(number)) from error

        self.kept = [number for number in range(len(self.lines)) if is_kept(number)]

    def line_number(self, index: int) -> int:
        """The line number of an item in `lines`."""
        return index if self.kept is None else self.kept[index]

    def __getitem__(self, index: int) -> Item:
        """The Item of a record; its key names the file and line, `file.jsonl:12`.

        Raises:
            DataError: names file, line and field.
        """
        number = self.line_number(index)
        line = self.lines[number]
        where = self.lines.where(number)
        rng = None if self.epoch is None else seeded_rng(self.seed, self.epoch, number)
        try:
            record = self.record(line, rng)
        except DataError as error:
            raise error.at(where) from error
        except KeyError as error:
            missing = error.args[0] if error.args else None
            if not isinstance(missing, str) or missing in line:
                raise
            missing_field = DataError(
                field=missing, expected="a value", found=describe_absent(line), kind="missing-field"
            )
            raise missing_field.at(where) from error
        if isinstance(line.get("group"), Mapping):
            record = {**record, "group": {**record.get("group", {}), **line["group"]}}
        item = read_item(record, key=where, folder=self.image_folder)
        return item if self.convention is None else lift_item(item, self.convention)

    def set_epoch(self, epoch: int | None) -> None:
        self.epoch = epoch

    def record(self, line: dict[str, Any], rng: random.Random | None) -> dict[str, Any]:
        """Turn one annotation record into the dict that `mllm.records.read_item` describes.

        `rng` is the only source of randomness; it is None in evaluation, which must be the same every time.
        """
        raise NotImplementedError(f"{type(self).__name__} has no record()")


def seeded_rng(seed: int, epoch: int | None, index: int) -> random.Random:
    """A generator that is the same in every process: seeding with a string does not depend on Python's hashing."""
    return random.Random(f"{seed} {epoch} {index}")
