"""What all converters share: the command line, progress, a summary of what was written and left out, whole files only.

A converter is a module with a docstring for its users and

    def arguments(parser): ...          # its inputs
    def convert(given, out): ...        # reads them; out.write(name, record), out.skip(reason), out.progress(...)

    if __name__ == "__main__":
        sys.exit(main(__doc__, arguments, convert))
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TextIO, TypeVar

from tqdm import tqdm

from mllm.errors import ConfigError, DataError, MllmError
from mllm.types import is_finite

T = TypeVar("T")
Placed = tuple[str, dict[str, Any]]
"""A record after its place, as messages call it: `a.jsonl:12` counts lines from 1, `a.json[11]` entries from 0."""
Id = int | str


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

    def write(self, name: str, record: Mapping[str, Any]) -> None:
        """Add a line to the file `name`.

        Raises:
            ConfigError: that file is an input.
        """
        if name not in self._files:
            if (self.folder / name).resolve() in self._inputs:
                raise ConfigError(f"{self.folder / name}: is an input; name another folder with --out")
            self.folder.mkdir(parents=True, exist_ok=True)
            descriptor, part = tempfile.mkstemp(dir=self.folder, prefix=f".{name}.", suffix=".part")
            self._stack.callback(Path(part).unlink, missing_ok=True)
            self._files[name] = self._stack.enter_context(os.fdopen(descriptor, "w", encoding="utf-8")), Path(part)
        self._files[name][0].write(json.dumps(record, ensure_ascii=False) + "\n")
        self.written[name] += 1

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
            raise DataError(f"{self.folder}: nothing to write ({reasons or 'the input holds no record'})")
        for name, (file, part) in self._files.items():
            file.close()
            part.chmod(0o644)
            os.replace(part, self.folder / name)

    def summary(self) -> str:
        lines = [f"{count:>10}  {self.folder / name}" for name, count in sorted(self.written.items())]
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
    try:
        with Outputs(given.out, inputs_of(given)) as out:
            convert(given, out)
            out.finish()
            print(out.summary())
    except MllmError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def inputs_of(given: argparse.Namespace) -> set[Path]:
    """The files that a command line names."""
    named = [value if isinstance(value, list) else [value] for value in vars(given).values()]
    return {path.resolve() for paths in named for path in paths if isinstance(path, Path)}


def read_text(path: Path) -> str:
    """The content of a file.

    Raises:
        DataError: it cannot be read, or is not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: expected UTF-8: {error}") from error


def read_json(path: Path, kind: type[T]) -> T:
    """The content of a JSON file, which must be a `kind`.

    Raises:
        DataError: it cannot be read, or holds something else.
    """
    text = read_text(path)
    try:
        found = json.loads(text)
    except ValueError as error:
        raise DataError(f"{path}: not JSON: {error}") from error
    if not isinstance(found, kind):
        raise DataError(f"{path}: expected a {kind.__name__}, found {type(found).__name__}")
    return found


def read_records(path: Path) -> list[Placed]:
    """The objects of a file of JSON lines or of one JSON array.

    Raises:
        DataError: it cannot be read; names the line.
    """
    text = read_text(path)
    if text.lstrip().startswith("["):
        return list(entries(read_json(path, list), path))
    found: list[Placed] = []
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                record = json.loads(line)
            except ValueError as error:
                raise DataError(f"{path}:{number}: not JSON: {error}") from error
            found.append((f"{path}:{number}", entry(record, f"{path}:{number}")))
    return found


def entries(found: Iterable[Any], where: object) -> Iterator[Placed]:
    """The objects of the JSON array that is found at `where`.

    Raises:
        DataError: one is not an object.
    """
    for number, record in enumerate(found):
        yield f"{where}[{number}]", entry(record, f"{where}[{number}]")


def by_id(found: Mapping[str, Any], name: str, path: Path, key: str = "id") -> dict[Id, Placed]:
    """The objects of the array `found[name]` of a file, by their ids."""
    placed = entries(need(found, name, path, list), f"{path}: {name}")
    return {need_id(record, key, where): (where, record) for where, record in placed}


def entry(record: Any, where: object) -> dict[str, Any]:
    """The record, which must be an object."""
    if not isinstance(record, dict):
        raise DataError(f"{where}: expected an object, found {type(record).__name__}")
    return record


def need(record: Mapping[str, Any], name: str, where: object, kind: type[T] | None = None) -> T:
    """`record[name]`, which must be a `kind` if one is given.

    Raises:
        DataError: names the place, the field, what was expected and what was found.
    """
    if name not in record:
        raise DataError(f"{where}: expected a field '{name}', found {', '.join(map(str, record)) or 'none'}")
    value = record[name]
    if kind is None:
        return value
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise DataError(f"{where}: {name}: expected {kind.__name__}, found {value!r:.60}")
    return value


def need_id(record: Mapping[str, Any], name: str, where: object) -> Id:
    """`record[name]`, by which other records call this one."""
    value = need(record, name, where)
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        raise DataError(f"{where}: {name}: expected a number or a text, found {value!r:.60}")
    return value


def size_of(picture: Mapping[str, Any], where: object) -> tuple[int, int]:
    """(width, height) of a picture that is so described."""
    size = need(picture, "width", where, int), need(picture, "height", where, int)
    if min(size) < 1:
        raise DataError(f"{where}: width, height: expected at least one pixel, found {size[0]} x {size[1]}")
    return size


def texts(record: Mapping[str, Any], name: str, where: object) -> list[str]:
    """`record[name]`, which must be a list of texts."""
    found = need(record, name, where, list)
    if not all(isinstance(text, str) for text in found):
        raise DataError(f"{where}: {name}: expected a list of texts, found {found!r:.60}")
    return found


def corners(xywh: Sequence[float], size: tuple[int, int], where: object) -> list[float] | None:
    """[x, y, width, height] -> [x1, y1, x2, y2], cut at the edges of a picture; None where nothing is left.

    Sums of decimals are rounded where floating point would add digits: 165.12 + 41.1 is 206.22.

    Raises:
        DataError: these are not four numbers; `where` names the field.
    """
    if len(xywh) != 4 or not all(map(is_finite, xywh)):
        raise DataError(f"{where}: expected 4 numbers, found {xywh!r:.60}")
    x, y, width, height = xywh
    sides = (x, y, round(x + width, 6), round(y + height, 6))
    box = [min(max(value, 0), size[n % 2]) for n, value in enumerate(sides)]
    return box if box[0] < box[2] and box[1] < box[3] else None
