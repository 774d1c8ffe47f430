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
from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

from mllm.conversation.convention import ConventionConfig, read_convention
from mllm.conversation.region_conversion import lift_item
from mllm.dataset.files.jsonl import IndexedJsonl
from mllm.errors import DataError
from mllm.fields import PathName, absent, within
from mllm.types import Item


@runtime_checkable
class Dataset(Protocol):
    """What training and evaluation read. `set_epoch(None)`, the state at first, is evaluation: nothing is drawn."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Item: ...

    def set_epoch(self, epoch: int | None) -> None: ...


class LineDataset:
    """One Item per record of an annotation file; override `record`.

    `image_folder` stands before the relative image paths of the lines. What is drawn follows from `seed`, the epoch
    and the index. `entries` says where a `.json` file holds its records, see `Lines`; it is not asked of a `.jsonl`.
    `regions` names the convention of boxes and points that stand in the words, which become typed ones, see
    `read_convention`.
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
        self.convention = None if regions is None else within("regions", read_convention, regions)
        self.epoch: int | None = None
        self.kept: list[int] | None = None
        """The numbers of the lines that are items, where `keep` left some out."""

    def __len__(self) -> int:
        return len(self.lines) if self.kept is None else len(self.kept)

    def keep(self, wanted: Callable[[dict[str, Any]], bool]) -> None:
        """Leave out the lines that are not wanted; all are read once. One that cannot be read is named on access.

        Raises:
            DataError: of what `wanted` reads; names file and line.
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
        """The number of the line in `lines` behind an item."""
        return index if self.kept is None else self.kept[index]

    def __getitem__(self, index: int) -> Item:
        """The Item of a record; its key says where the record is, `file.jsonl:12`.

        Raises:
            DataError: names file, line and field.
        """
        number = self.line_number(index)
        line = self.lines[number]
        where = self.lines.where(number)
        rng = None if self.epoch is None else seeded(self.seed, self.epoch, number)
        try:
            record = self.record(line, rng)
        except DataError as error:
            raise error.at(where) from error
        except KeyError as error:
            missing = error.args[0] if error.args else None
            if not isinstance(missing, str) or missing in line:
                raise
            missing_field = DataError(field=missing, expected="a value", found=absent(line), kind="missing-field")
            raise missing_field.at(where) from error
        item = Item.from_dict(record, key=where, folder=self.image_folder)
        return item if self.convention is None else lift_item(item, self.convention)

    def set_epoch(self, epoch: int | None) -> None:
        self.epoch = epoch

    def record(self, line: dict[str, Any], rng: random.Random | None) -> dict[str, Any]:
        """One annotation record as the public plain dict that `Item.from_dict` describes.

        `rng` is the only source of chance; None in evaluation, when the answer must be the same every time.
        """
        raise NotImplementedError(f"{type(self).__name__} has no record()")


def seeded(seed: int, epoch: int | None, index: int) -> random.Random:
    """A generator that is the same in every process: seeding with a text does not depend on Python's own hashing."""
    return random.Random(f"{seed} {epoch} {index}")
