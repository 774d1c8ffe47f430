"""Predictions files of several models about the same items, compared answer by answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from mllm.dataset.files.jsonl import IndexedJsonl
from mllm.errors import DataError
from mllm.fields import show
from mllm.files import check_file
from mllm.metrics.breakdown import ABSENT, places_of
from mllm.metrics.outcome import PREDICTIONS, check_record
from mllm.metrics.statistics import Difference, compare_values

SUFFIX = f"_{PREDICTIONS}"


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictionsFile:
    """A predictions file: what it holds of each item, in the order of the items."""

    name: str
    path: str
    records: list[Mapping[str, Any]]

    @property
    def scores(self) -> list[float]:
        return [record["score"] for record in self.records]


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """Two models on the same items: all of them, and parts of them by the values of a name."""

    a: PredictionsFile
    b: PredictionsFile
    difference: Difference
    parts: Mapping[str, Mapping[str, Difference]]

    @property
    def flipped(self) -> list[tuple[Mapping[str, Any], Mapping[str, Any]]]:
        """The records of items whose scores differ, the greatest gains of B first, its greatest losses last."""
        pairs = zip(self.a.records, self.b.records, strict=True)
        return sorted(
            (pair for pair in pairs if pair[0]["score"] != pair[1]["score"]),
            key=lambda pair: pair[0]["score"] - pair[1]["score"],
        )


def read_all(paths: Sequence[str]) -> list[PredictionsFile]:
    """The files, or those in folders of evaluations, under names that tell them apart.

    Raises:
        DataError: a folder holds none or several, a record has no score, or two files are about other items.
    """
    files = [_file_in(path) for path in paths]
    names = _names(files)
    read = [_read(name, path) for name, path in zip(names, files, strict=True)]
    for other in read[1:]:
        _check_same(read[0], other)
    return read


def compared(a: PredictionsFile, b: PredictionsFile) -> Compared:
    """Compare two files of the same items.

    Raises:
        DataError: they are about one image.
    """
    images = [record["image"] for record in a.records]
    if len(set(images)) < 2:
        expected = "answers about at least two images, which the interval is drawn from"
        raise DataError(where=a.path, expected=expected, found="one image")
    return Compared(a=a, b=b, difference=compare_values(a.scores, b.scores, images), parts=_parts(a, b, images))


def verdict(difference: Difference) -> str:
    """What the numbers say, and what it would take to say more."""
    if not difference.detectable:
        return "both score the same on every item"
    detectable = f"differences from {difference.detectable:.4f} on show in 4 of 5 comparisons of this size"
    if difference.is_significant:
        better = "B" if difference.difference > 0 else "A"
        return f"{better} is better: the interval leaves out 0; {detectable}"
    needed = difference.count_needed
    if needed is None:
        return f"no difference was found; {detectable}"
    more = f"one of {abs(difference.difference):.4f} would need about {needed:,} answers"
    return f"neither is better by these answers; {detectable}, {more}"


def _parts(a: PredictionsFile, b: PredictionsFile, images: Sequence[str]) -> dict[str, dict[str, Difference]]:
    names = dict.fromkeys(name for record in a.records for name in record.get("group") or {})
    found: dict[str, dict[str, Difference]] = {}
    for name in names:
        places = places_of(str((record.get("group") or {}).get(name, ABSENT)) for record in a.records)
        several = {value: some for value, some in places.items() if len({images[place] for place in some}) > 1}
        if len(places) > 1:
            found[name] = {
                value: compare_values(
                    [a.scores[place] for place in some],
                    [b.scores[place] for place in some],
                    [images[place] for place in some],
                )
                for value, some in sorted(several.items())
            }
    return found


def _file_in(path: str) -> str:
    if not Path(path).is_dir():
        check_file(path)
        return path
    files = sorted(Path(path).glob(f"*{SUFFIX}"))
    if len(files) != 1:
        found = ", ".join(file.name for file in files) or "none"
        raise DataError(where=path, expected=f"one file *{SUFFIX}", found=found, message="name the file itself")
    return str(files[0])


def _names(files: Sequence[str]) -> list[str]:
    """The shortest ends of the paths that tell the files apart, without what all predictions files are called.

    Raises:
        DataError: a file is named twice.
    """
    parts = [(*Path(file).resolve().parent.parts[1:], Path(file).name.removesuffix(SUFFIX)) for file in files]
    if len(set(parts)) < len(parts):
        twice = next(file for file, each in zip(files, parts, strict=True) if parts.count(each) > 1)
        raise DataError(where=twice, expected="different files", found="it twice")
    lengths = range(1, max(map(len, parts)) + 1)
    return next(
        names for length in lengths if len(set(names := ["/".join(each[-length:]) for each in parts])) == len(parts)
    )


def _read(name: str, path: str) -> PredictionsFile:
    lines = IndexedJsonl(path)
    records: list[Mapping[str, Any]] = []
    for number in range(len(lines)):
        record, where = lines[number], lines.where(number)
        for known in ("image", "score"):
            if record.get(known) is None:
                message = "evaluate again, or score the file: mllm score FILE --output_dir DIR"
                raise DataError(where=where, field=known, expected="a value", found="nothing", message=message)
        check_record(record, where)
        if not 0 <= record["score"] <= 1:
            raise DataError(where=where, field="score", expected="a number from 0 to 1", found=show(record["score"]))
        records.append(record)
    records.sort(key=lambda record: record["index"])
    for before, after in pairwise(records):
        if before["index"] == after["index"]:
            raise DataError(where=path, expected=f"one answer of index {after['index']}", found="two", kind="duplicate")
    return PredictionsFile(name=name, path=path, records=records)


def _check_same(a: PredictionsFile, b: PredictionsFile) -> None:
    if len(a.records) != len(b.records):
        raise DataError(where=b.path, expected=f"{len(a.records)} answers, as {a.path}", found=str(len(b.records)))
    for one, other in zip(a.records, b.records, strict=True):
        for name in ("key", "target"):
            if one.get(name) != other.get(name):
                found, expected = show(other.get(name)), f"{show(one.get(name))}, as {a.path}"
                raise DataError(where=f"{b.path}: {other['key']}", field=name, expected=expected, found=found)
