"""Random access to the records of an annotation file, without holding the file in memory.

The first use of a file writes where its lines begin to a cache, `$MLLM_CACHE` or `~/.cache/mllm`. The cache may be
deleted at any time; an entry belongs to one path, size and modification time.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from mllm.cache import complete
from mllm.dataset.files.derived import cached, cached_array, is_sealed, probes, seal
from mllm.errors import DataError
from mllm.files import check_file, decode_utf8, parse_json, read_json, read_text, unreadable_file
from mllm.json_fields import field

_CHUNK_BYTES = 4 << 20
_BOM = b"\xef\xbb\xbf"


class IndexedJsonl:
    """The records (JSON objects) of an annotation file, read one at a time.

    A `.json` file holds one array of objects, and is written out as lines in the cache at its first use. Any other
    file holds one object per line: UTF-8, with or without a byte order mark, LF or CRLF, blank lines only at its end;
    so does a `.json` file that begins with two such lines, as those of POPE.
    With `entries`, the records of a `.json` file are what it holds under these names (none of them: the whole file), an
    array or an object of records by id; then a record is given with its key as `id`, and a value that is no object as
    `value`.

    Pickled as its path alone. Processes may share one: reading moves no file position.

    Raises:
        DataError: no such file, or one without records; on access: a line that is not a JSON object.
        ConfigError: the cache folder cannot be written.
    """

    def __init__(self, path: str, entries: Sequence[str] | None = None) -> None:
        self.path = path
        self.entries = entries
        check_file(path)
        try:
            self._is_array = entries is not None or (
                Path(path).suffix.lower() == ".json" and not _begins_with_lines(path)
            )
            lines_path = _lines_of(path, entries) if self._is_array else Path(path)
            self._starts = _line_starts(lines_path)
            self._file = lines_path.open("rb", buffering=0)
        except OSError as error:
            raise unreadable_file(path, error) from error
        if len(self) == 0:
            raise DataError(where=path, expected="at least one record", found="none", kind="empty-file")

    def __reduce__(self) -> tuple[type[IndexedJsonl], tuple[str, Sequence[str] | None]]:
        return IndexedJsonl, (self.path, self.entries)

    def __len__(self) -> int:
        return len(self._starts) - 1

    def __getitem__(self, index: int) -> dict[str, Any]:
        if not 0 <= index < len(self):
            raise IndexError(f"{self.path}: record {index} of {len(self)}")
        start, end = int(self._starts[index]), int(self._starts[index + 1])
        line = os.pread(self._file.fileno(), end - start, start).rstrip()
        where = self.where(index)
        if not line:
            raise DataError(where=where, expected="a JSON object", found="a blank line", kind="blank-line")
        return parse_json(decode_utf8(line, where), dict, where)

    def where(self, index: int) -> str:
        """How to find a record: `file.jsonl:12` counts lines from 1, `file.json[11]` entries of the file from 0."""
        return f"{self.path}[{index}]" if self._is_array else f"{self.path}:{index + 1}"


def _begins_with_lines(path: str) -> bool:
    with open(path, "rb") as source:
        if not source.read(len(_BOM) + 1).removeprefix(_BOM).startswith(b"{"):
            return False  # an array may be one line of hundreds of megabytes
        source.seek(0)
        first, second = source.readline().removeprefix(_BOM), source.read(64)
    if not second.lstrip().startswith(b"{"):
        return False
    try:
        json.loads(first)
    except ValueError:
        return False
    return True


def _line_starts(path: Path) -> NDArray[np.int64]:
    """int64 [lines + 1]: the byte at which each line starts, then the end of the last; on disk, not in memory."""
    return cached_array(path, ".lines.npy", "line positions", partial(_scan, path), partial(_are_starts, path))


def _are_starts(path: Path, found: NDArray[np.int64]) -> bool:
    """Whether lines of a file begin there, as far as some of them show, and nothing follows the last."""
    size = path.stat().st_size
    if found.ndim != 1 or not len(found) or not 0 <= found[0] <= len(_BOM) or found[-1] > size:
        return False
    if not (np.diff(found) > 0).all():
        return False
    starts = found[probes(len(found))]
    with path.open("rb") as source:
        breaks = all(_between(source, start - 1, start) == b"\n" for start in starts[1:-1].tolist())
        rest = _between(source, int(starts[-1]), min(size, int(starts[-1]) + _CHUNK_BYTES))
    return breaks and not rest.strip()


def _scan(path: Path) -> NDArray[np.int64]:
    with path.open("rb") as source:
        size = os.fstat(source.fileno()).st_size
        start = len(_BOM) if source.read(len(_BOM)) == _BOM else 0
        source.seek(0)
        parts = [np.array([start], np.int64)]
        offset = 0
        while chunk := source.read(_CHUNK_BYTES):
            parts.append(np.flatnonzero(np.frombuffer(chunk, np.uint8) == ord("\n")) + (offset + 1))
            offset += len(chunk)
        starts = np.concatenate(parts)
        if starts[-1] < size:  # the last line has no newline
            starts = np.append(starts, size)
        lines = len(starts) - 1
        while lines and not _between(source, int(starts[lines - 1]), int(starts[lines])).strip():
            lines -= 1  # blank lines at the end
        return starts[: lines + 1]


def _between(source: BinaryIO, start: int, end: int) -> bytes:
    return os.pread(source.fileno(), end - start, start)


def _lines_of(path: str, entries: Sequence[str] | None) -> Path:
    """The cached file that holds each record of a JSON file on a line of its own."""
    lines = cached(Path(path), ".jsonl" if entries is None else f".{'.'.join(('', *entries))}.jsonl")
    if is_sealed(lines):
        return lines
    if entries is None:
        several = "one JSON array (a file of lines is named .jsonl)"
        records: Iterable[Any] = parse_json(read_text(path), list, path, expected=several)
    else:
        records = _entries_of(path, read_json(path, object), entries)
    with complete(lines, "lines") as target:
        for record in records:
            target.write(json.dumps(record).encode() + b"\n")
        seal(target)
    return lines


def _entries_of(path: str, found: object, entries: Sequence[str]) -> Iterator[object]:
    try:
        for name in entries:
            found = field(found, name, object)
    except DataError as error:
        raise error.at(path) from error
    if entries and isinstance(found, list):
        yield from cast("list[Any]", found)
        return
    if not isinstance(found, dict):
        expected = "an object of records by id"
        raise DataError(where=path, expected=expected, found=type(found).__name__, kind="json")
    for key, value in cast("dict[str, Any]", found).items():
        yield {**cast("dict[str, Any]", value), "id": key} if isinstance(value, dict) else {"id": key, "value": value}
