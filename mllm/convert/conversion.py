"""What all converters share: the command line, progress, a summary of what was written and left out, whole files only.

A converter is a module with a docstring for its users and

    def arguments(parser): ...          # its inputs
    def convert(given, out): ...        # reads them; out.write(name, record), out.skip(reason), out.progress(...)

    if __name__ == "__main__":
        sys.exit(main(__doc__, arguments, convert))
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any, TextIO, TypeVar, cast

from tqdm import tqdm

from mllm.boundary import reported
from mllm.errors import ConfigError, DataError, MllmError
from mllm.fields import PathName, Range, is_finite, show
from mllm.files import check_file, parse_json, read_text, writing_to
from mllm.json_fields import ID, field

T = TypeVar("T")
Placed = tuple[str, dict[str, Any]]
"""A record after its place, as messages call it: `a.jsonl:12` counts lines from 1, `a.json[11]` entries from 0."""
Side = Annotated[int, Range(least=1, most=1_000_000)]
"""Width or height of an image in pixels."""
BATCH_ROWS = 16
"""Rows of a table that are read at once: one may hold many masks."""
MOST_SHOWN = 50
"""Files that a summary names one by one."""


class Outputs:
    """Files of lines under a folder. They take their names when all is done, so a run that breaks off leaves none."""

    def __init__(self, folder: Path, inputs: Set[Path] = frozenset()) -> None:
        """`inputs` are never written over."""
        self.folder = folder
        self._inputs = inputs
        self.written: Counter[str] = Counter()
        self.skipped: Counter[str] = Counter()
        self._files: dict[str, tuple[TextIO, Path]] = {}
        self._stack = ExitStack()

    def write(self, name: str, record: Mapping[str, object]) -> None:
        """Add a line to the file `name`.

        Raises:
            ConfigError: that file is an input, or the folder cannot be written.
            DataError: a text was cut between two `\\u` escapes.
        """
        if name not in self._files:
            self._open(name)
        line = json.dumps(record, ensure_ascii=False)
        try:
            self._files[name][0].write(line + "\n")
        except UnicodeEncodeError as error:
            found = f"half a character in a record, {line[max(0, error.start - 60) : error.start + 20]!r}"
            where = str(self.folder / name)
            raise DataError(where=where, expected="texts", found=found, kind="half-character") from None
        self.written[name] += 1

    def write_text(self, name: str, text: str, records: int) -> None:
        """Write a whole file of another kind, which holds so many records; raises as `write`."""
        self._open(name)
        with self._files[name][0] as file:  # there may be more of them than a process may hold open
            file.write(text)
        self.written[name] = records

    def _open(self, name: str) -> None:
        field({"name": name}, "name", PathName, where=self.folder)
        if (self.folder / name).resolve() in self._inputs:
            raise ConfigError(
                "name another folder with --out",
                where=str(self.folder / name),
                expected="a new file",
                found="an input",
            )
        with writing_to(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            descriptor, part = tempfile.mkstemp(dir=self.folder, prefix=f".{name}.", suffix=".part")
        self._stack.callback(Path(part).unlink, missing_ok=True)
        self._files[name] = self._stack.enter_context(os.fdopen(descriptor, "w", encoding="utf-8")), Path(part)

    def skip(self, reason: str) -> None:
        """Count a record that is left out."""
        self.skipped[reason] += 1

    def progress(self, records: Sequence[T], what: str) -> Iterable[T]:
        """The records, with a progress bar where one looks at it."""
        return tqdm(records, desc=what, unit="", disable=None)

    def finish(self) -> None:
        """Give all files their names; those of an earlier run are replaced.

        Raises:
            DataError: nothing was written.
        """
        if not self._files:
            reasons = ", ".join(f"{count} {reason}" for reason, count in self.skipped.most_common())
            raise DataError(
                where=str(self.folder),
                expected="records to write",
                found=f"none ({reasons or 'the input holds no record'})",
            )
        for name, (file, part) in self._files.items():
            file.close()
            part.chmod(0o644)
            with writing_to(self.folder / name):
                os.replace(part, self.folder / name)

    def summary(self) -> str:
        lines = [f"{count:>10}  {self.folder / name}" for name, count in sorted(self.written.items())]
        if len(lines) > MOST_SHOWN:
            lines = [f"{self.written.total():>10}  {self.folder}, in {len(lines):,} files"]
        lines += [f"{count:>10}  left out: {reason}" for reason, count in self.skipped.most_common()]
        return "\n".join(lines)

    def __enter__(self) -> Outputs:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()


def main(
    about: str | None,
    arguments: Callable[[argparse.ArgumentParser], object],
    convert: Callable[[argparse.Namespace, Outputs], None],
    argv: Sequence[str] | None = None,
) -> int:
    """Run a converter: exit status 0, 1 for input that cannot be converted, 2 for a wrong command line."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments(parser)
    parser.add_argument("--out", type=Path, default=Path("data/annotations"), help="folder to write to")
    given = parser.parse_args(argv)

    def work() -> int:
        try:
            with Outputs(given.out, inputs_of(given)) as out:
                convert(given, out)
                out.finish()
                print(out.summary())
        except MllmError as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
        return 0

    return reported(work)


def inputs_of(given: argparse.Namespace) -> set[Path]:
    """The files that a command line names."""
    named = [value if isinstance(value, list) else [value] for value in vars(given).values()]
    return {path.resolve() for paths in named for path in paths if isinstance(path, Path)}


def read_records(path: Path) -> list[Placed]:
    """The objects of a file of JSON lines or of one JSON array.

    Raises:
        DataError: it cannot be read; names the line.
    """
    text = read_text(path)
    if text.lstrip().startswith("["):
        return list(entries(parse_json(text, list, str(path)), path))
    lines = [(f"{path}:{number}", line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    return [(where, parse_json(line, dict, where)) for where, line in lines]


def read_table(path: Path, columns: Sequence[str] | None = None) -> Iterator[Placed]:
    """The rows of a parquet table, a few at a time, or of a file of JSON lines.

    Args:
        columns: of a parquet table only these.

    Raises:
        ConfigError: a parquet table, but no package to read it.
        DataError: it cannot be read.
    """
    if path.suffix != ".parquet":
        yield from read_records(path)
        return
    check_file(path)
    try:
        parquet = importlib.import_module("pyarrow.parquet")
    except ImportError as error:
        raise ConfigError("parquet needs a package that is missing: pip install pyarrow", where=str(path)) from error
    number = 0
    try:
        for batch in parquet.ParquetFile(path).iter_batches(BATCH_ROWS, columns=columns):
            for row in batch.to_pylist():
                yield f"{path}[{number}]", row
                number += 1
    except (OSError, ValueError) as error:
        raise DataError(f"not a parquet table: {error}", where=str(path)) from error


def entries(found: Iterable[object], where: object) -> Iterator[Placed]:
    """The objects of the JSON array that is found at `where`.

    Raises:
        DataError: one is not an object.
    """
    for number, record in enumerate(found):
        if not isinstance(record, dict):
            shown = show(record)
            raise DataError(where=f"{where}[{number}]", expected="an object", found=shown, kind="wrong-type")
        yield f"{where}[{number}]", cast("dict[str, Any]", record)


def index_by_id(found: Mapping[str, object], name: str, path: Path, key: str = "id") -> dict[int | str, Placed]:
    """The objects of the array `found[name]` of a file, by their ids."""
    placed = entries(field(found, name, list, where=path), f"{path}: {name}")
    return {field(record, key, ID, where=where): (where, record) for where, record in placed}


def image_size(image: Mapping[str, object], where: str) -> tuple[int, int]:
    """(width, height) of an image that is so described."""
    return field(image, "width", Side, where=where), field(image, "height", Side, where=where)


def xywh_to_xyxy(xywh: Sequence[float], size: tuple[int, int], where: str, at: str) -> list[float] | None:
    """[x, y, width, height] -> [x1, y1, x2, y2], cut at the edges of an image; None where nothing is left.

    Sums of decimals are rounded where floating point would add digits: 165.12 + 41.1 is 206.22.

    Raises:
        DataError: these are not four numbers; `at` names the field.
    """
    if len(xywh) != 4 or not all(map(is_finite, xywh)):
        raise DataError(where=where, field=at, expected="4 numbers", found=show(xywh), kind="coordinates")
    x, y, width, height = xywh
    return clip_box((x, y, round(x + width, 6), round(y + height, 6)), size)


def clip_box(xyxy: Sequence[float], size: tuple[int, int]) -> list[float] | None:
    """[x1, y1, x2, y2] cut at the edges of an image; None where nothing is left."""
    box = [min(max(value, 0), size[n % 2]) for n, value in enumerate(xyxy)]
    return box if box[0] < box[2] and box[1] < box[3] else None
