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
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TextIO, TypeVar

from tqdm import tqdm

from mllm.errors import DataError, MllmError

T = TypeVar("T")


class Outputs:
    """Files of lines under a folder. They take their names when all is done, so a run that breaks off leaves none."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.written: Counter[str] = Counter()
        self.skipped: Counter[str] = Counter()
        self._files: dict[str, tuple[TextIO, Path]] = {}
        self._stack = ExitStack()

    def write(self, name: str, record: Mapping[str, Any]) -> None:
        """Add a line to the file `name`."""
        if name not in self._files:
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
        with Outputs(given.out) as out:
            convert(given, out)
            out.finish()
            print(out.summary())
    except MllmError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def read_json(path: Path, kind: type[T]) -> T:
    """The content of a JSON file, which must be a `kind`.

    Raises:
        DataError: it cannot be read, or holds something else.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise DataError(f"{path}: not JSON: {error}") from error
    if not isinstance(found, kind):
        raise DataError(f"{path}: expected a {kind.__name__}, found {type(found).__name__}")
    return found


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a file of JSON lines; a file that holds one JSON array will do.

    Raises:
        DataError: it cannot be read; names the line.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read: {error}") from error
    if text.lstrip().startswith("["):
        return [entry(path, record, n) for n, record in enumerate(read_json(path, list))]
    records: list[dict[str, Any]] = []
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                records.append(entry(path, json.loads(line), number))
            except ValueError as error:
                raise DataError(f"{path}:{number}: not JSON: {error}") from error
    return records


def entry(path: Path, record: Any, number: int) -> dict[str, Any]:
    """The record, which must be an object."""
    if not isinstance(record, dict):
        raise DataError(f"{path}: record {number}: expected an object, found {type(record).__name__}")
    return record


def need(record: Mapping[str, Any], name: str, where: object, kind: type[T] | None = None) -> T:
    """`record[name]`, which must be a `kind` if one is given.

    Raises:
        DataError: names the file, the field and what was found.
    """
    if name not in record:
        raise DataError(f"{where}: expected a field '{name}', found {', '.join(map(str, record)) or 'none'}")
    value = record[name]
    if kind is not None and not isinstance(value, kind):
        raise DataError(f"{where}: {name}: expected {kind.__name__}, found {value!r:.60}")
    return value


def size_of(picture: Mapping[str, Any], where: object) -> tuple[int, int]:
    """(width, height) of a picture that is so described."""
    return need(picture, "width", where, int), need(picture, "height", where, int)


def corners(xywh: Sequence[float], size: tuple[int, int] | None = None) -> list[float] | None:
    """[x, y, width, height] -> [x1, y1, x2, y2], cut at the edges of a picture; None where nothing is left.

    Raises:
        DataError: these are not four numbers.
    """
    if len(xywh) != 4 or not all(isinstance(value, (int, float)) for value in xywh):
        raise DataError(f"a box: expected 4 numbers, found {xywh!r:.60}")
    x, y, width, height = xywh
    box = [x, y, x + width, y + height]
    if size is not None:
        box = [min(max(value, 0), size[n % 2]) for n, value in enumerate(box)]
    return box if box[0] < box[2] and box[1] < box[3] else None
