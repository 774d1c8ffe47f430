"""The regions in the texts of a record of a dataset or of a predictions file, in another convention."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, lru_cache, partial
from typing import Any, cast

from mllm.commands.regions.words import region_words
from mllm.conversation.convention import (
    Convention,
    ConversionError,
)
from mllm.conversation.region_conversion import PLACEHOLDER, Lifting, rewrite
from mllm.dataset.files.jsonl import IndexedJsonl
from mllm.errors import ConfigError, DataError
from mllm.fields import PositiveInt, show
from mllm.images import image_ref
from mllm.json_fields import describe_absent, field
from mllm.types import Turn

TYPED = "typed"
"""The target of a conversion that is no codec: the item contract."""
Size = Callable[[], tuple[int, int]]
IMAGE_FIELDS = ("image", "img_path", "image_path", "file_path", "img_fn")
RECORD_KEY = re.compile(r"(?P<file>.+?)(?::(?P<line>\d+)|\[(?P<entry>\d+)\])")


@dataclass(slots=True, kw_only=True)
class ConversionCounts:
    """What was done.

    Attributes:
        texts: that held regions.
        groups: of regions.
        kept: texts that were left as they are; `first`: where the first stands, and why.
        unread: texts with regions that are not the source's; `first_unread`: where the first stands, and the regions.
    """

    texts: int = 0
    groups: int = 0
    kept: int = 0
    first: str | None = None
    unread: int = 0
    first_unread: str | None = None

    def include(self, other: ConversionCounts) -> None:
        """Add what was done after it."""
        self.texts += other.texts
        self.groups += other.groups
        self.kept += other.kept
        self.first = self.first or other.first
        self.unread += other.unread
        self.first_unread = self.first_unread or other.first_unread


@dataclass(slots=True, kw_only=True)
class Conversion:
    """Records of a file with their texts rewritten, and a count of what was done."""

    source: Convention
    target: Convention | None
    """None: typed regions."""
    image_folder: str | None = None
    keep: bool = False
    """Leave a text whose regions cannot be read as it is."""
    counts: ConversionCounts = dataclasses.field(default_factory=ConversionCounts)

    def record(self, record: dict[str, object], where: str) -> dict[str, Any]:
        """A line of a dataset or of a predictions file, converted.

        Raises:
            DataError: neither of the two; a text that cannot be converted (unless `keep`); an image without a size.
        """
        turns = record.get("conversations")
        if isinstance(turns, list):
            size = cache(partial(image_size, record, where, self.image_folder))
            checked = [_turn(turn, f"{where}: conversations[{number}]") for number, turn in enumerate(turns)]
            return {**record, **(self._typed if self.target is None else self._rewritten)(checked, record, where, size)}
        if "text" in record and "key" in record:
            if self.target is None:
                raise ConfigError(
                    where=where,
                    expected=f"records of a dataset for --to {TYPED}",
                    found="a prediction, whose boxes in pixels are in 'pred' already",
                )
            size = partial(_size_by_key, record, where, self.image_folder)
            text = _text(record["text"], f"{where}: text")
            return {**record, "text": self._words(text, f"{where}: text", size, self.target, answer=True)}
        raise DataError(
            where=where,
            expected="a list 'conversations', or 'key' and 'text' of a prediction",
            found=describe_absent(record),
            kind="missing-field",
        )

    def _rewritten(self, turns: list[dict[str, Any]], record: dict[str, Any], where: str, size: Size) -> dict[str, Any]:
        assert self.target is not None
        places = (f"{where}: conversations[{number}].value" for number in range(len(turns)))
        values = [
            self._words(turn["value"], place, size, self.target) for turn, place in zip(turns, places, strict=True)
        ]
        return {"conversations": [{**turn, "value": value} for turn, value in zip(turns, values, strict=True)]}

    def _words(self, text: str, where: str, size: Size, target: Convention, *, answer: bool = False) -> str:
        with self._located(where):
            rewritten = rewrite(text, size, source=self.source, target=target, answer=answer)
            self._count(rewritten.groups, rewritten.rest, where)
            return rewritten.text
        return text

    def _typed(self, turns: list[dict[str, Any]], record: dict[str, Any], where: str, size: Size) -> dict[str, Any]:
        """The conversation and the target of the item contract."""
        if record.get("target") or any(PLACEHOLDER.search(turn["value"]) for turn in turns):
            raise DataError(where=where, expected="regions in words", found="typed ones, 'target' or placeholders")
        lifting = Lifting(self.source)
        typed: list[dict[str, Any]] = []
        for number, turn in enumerate(turns):
            lifted = Turn(role="human", text=turn["value"])
            place = f"{where}: conversations[{number}].value"
            with self._located(place):
                lifted = lifting.turn(lifted, size)
                self._count(len(lifted.boxes_seq) + len(lifted.points_seq), lifted.text, place)
            seqs = {"boxes_seq": lifted.boxes_seq, "points_seq": lifted.points_seq}
            typed.append({**turn, "value": lifted.text, **{name: seq for name, seq in seqs.items() if seq}})
        regions = {
            "boxes": [_rounded(box.xyxy) for box in lifting.boxes],
            "points": [_rounded(point.xy) for point in lifting.points],
        }
        target = {name: values for name, values in regions.items() if values}
        return {"conversations": typed, **({"target": target} if target else {})}

    def _count(self, groups: int, rest: str, where: str) -> None:
        """Count a text whose `rest` was not read."""
        self.counts.include(ConversionCounts(texts=int(groups > 0), groups=groups))
        if left := region_words(rest):
            self.counts.include(ConversionCounts(unread=1, first_unread=f"{where}: {show(left[0].words)}"))

    @contextmanager
    def _located(self, where: str) -> Generator[None, None, None]:
        """Name the place of what cannot be converted, or remember it where such texts are kept as they are."""
        try:
            yield
        except ConversionError as error:
            if not self.keep:
                raise error.at(where) from error
            self.counts.include(ConversionCounts(kept=1, first=str(error.at(where))))
        except ConfigError as error:
            raise error.at(where) from error


def _turn(turn: object, where: str) -> dict[str, Any]:
    if not isinstance(turn, dict) or "value" not in turn:
        raise DataError(where=where, expected="an object with 'value'", found=show(turn), kind="wrong-type")
    fields = cast("dict[str, Any]", turn)
    return {**fields, "value": _text(fields["value"], f"{where}.value")}


def _text(value: object, where: str) -> str:
    if not isinstance(value, str):
        raise DataError(where=where, expected="a text", found=show(value), kind="wrong-type")
    return value


def _rounded(values: Sequence[float]) -> list[float]:
    """To a hundredth of a pixel, far below what any text holds."""
    return [round(value, 2) for value in values]


def image_size(line: dict[str, object], where: str, folder: str | None) -> tuple[int, int]:
    """(width, height) in pixels of the image of an annotation line.

    Raises:
        DataError: the line names no image, or several; there is no such image.
    """
    if "width" in line or "height" in line:
        return field(line, "width", PositiveInt, where=where), field(line, "height", PositiveInt, where=where)
    several = line.get("images")
    named = several if isinstance(several, list) else [line[name] for name in IMAGE_FIELDS if line.get(name)]
    if len(named) != 1:
        raise DataError(
            where=where,
            expected=f"'width' and 'height', or one image in {', '.join(IMAGE_FIELDS)}",
            found=f"{len(named)} (the record has {', '.join(line) or 'no fields'})",
            kind="missing-field",
        )
    try:
        return image_ref(named[0], folder).size
    except DataError as error:
        raise error.at(where) from error


def _size_by_key(prediction: dict[str, object], where: str, folder: str | None) -> tuple[int, int]:
    """The size of a prediction's image: its own, else that of the annotation line which its key names."""
    match = RECORD_KEY.fullmatch(str(prediction["key"]))
    if "width" in prediction or match is None:
        return image_size(prediction, where, folder)
    try:
        lines = _annotations(match["file"])
        line = lines[int(match["line"]) - 1 if match["line"] else int(match["entry"])]
    except (DataError, IndexError) as error:
        raise DataError(
            f"the line that it names, for the size of the image: {error}", where=where, field="key"
        ) from error
    return image_size(line, f"{where}: key {prediction['key']}", folder)


@lru_cache(maxsize=16)
def _annotations(path: str) -> IndexedJsonl:
    return IndexedJsonl(path)
