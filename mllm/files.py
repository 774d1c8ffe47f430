"""Text and JSON files, read whole, and whatever is written: what goes wrong is an error of ours that names the file."""

from __future__ import annotations

import json
import os
import stat
from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, overload
from xml.etree import ElementTree

from mllm.errors import ConfigError, DataError, MllmError

T = TypeVar("T")

JSON_NAMES: dict[type, str] = {dict: "a JSON object", list: "a JSON array", object: "JSON"}


def check_file(path: str | Path, error: type[MllmError] = DataError) -> None:
    """Raises `error` unless there is a regular file: a pipe would wait for a writer, a device might never end."""
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError) as reason:
        raise unreadable_file(path, reason, error) from reason
    if found := other_than_file(mode):
        raise error(where=str(path), expected="a file", found=found, kind="unreadable-file")


def other_than_file(mode: int) -> str:
    """What a `st_mode` is of, where it is of no regular file; '' where it is."""
    return "" if stat.S_ISREG(mode) else "a folder" if stat.S_ISDIR(mode) else "a pipe, a socket or a device"


def unreadable_file(path: str | Path, reason: OSError | ValueError, error: type[MllmError] = DataError) -> MllmError:
    """The error for a file that the system does not open; a ValueError is about its name."""
    kind = "missing-file" if isinstance(reason, (FileNotFoundError, NotADirectoryError)) else "unreadable-file"
    said = reason.strerror or str(reason) if isinstance(reason, OSError) else str(reason)
    return error(f"cannot be read: {said}", where=str(path), kind=kind)


@contextmanager
def writing_to(path: str | Path, error: type[MllmError] = ConfigError) -> Generator[None, None, None]:
    """Around what creates or writes a file or a folder that a user has named.

    Raises:
        error: it cannot be written; says why.
    """
    try:
        yield
    except OSError as reason:
        raise error(f"cannot be written: {reason.strerror or reason}", where=str(path)) from reason


def read_bytes(path: str | Path, error: type[MllmError] = DataError) -> bytes:
    """The content of a file.

    Raises:
        error: there is no such file, or it cannot be read.
    """
    check_file(path, error)
    try:
        return Path(path).read_bytes()
    except OSError as reason:
        raise unreadable_file(path, reason, error) from reason


def complete_lines(path: Path) -> list[bytes]:
    """The lines of a file up to one that was cut while it was written."""
    lines = path.read_bytes().splitlines(keepends=True)
    return lines[:-1] if lines and not lines[-1].endswith(b"\n") else lines


def read_text(path: str | Path, error: type[MllmError] = DataError) -> str:
    """The content of a UTF-8 file, without a byte order mark.

    Raises:
        error: there is no such file, it cannot be read, or it is not UTF-8.
    """
    return decode_utf8(read_bytes(path, error), str(path), error)


def decode_utf8(data: bytes, where: str, error: type[MllmError] = DataError) -> str:
    """UTF-8 bytes as text, without a byte order mark."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as reason:
        line = data.count(b"\n", 0, reason.start) + 1
        column = reason.start - data.rfind(b"\n", 0, reason.start)
        at = f"line {line}, " if b"\n" in data else ""
        found = f"byte 0x{data[reason.start]:02x} in {at}column {column}"
        raise error(where=where, expected="UTF-8", found=found, kind="encoding") from reason


@overload
def read_json(path: str | Path, kind: type[dict[Any, Any]], error: type[MllmError] = ...) -> dict[str, Any]: ...
@overload
def read_json(path: str | Path, kind: type[list[Any]], error: type[MllmError] = ...) -> list[Any]: ...
@overload
def read_json(path: str | Path, kind: type[T], error: type[MllmError] = ...) -> T: ...
def read_json(path: str | Path, kind: type[Any], error: type[MllmError] = DataError) -> Any:
    """The content of a JSON file, which must be a `kind`: dict, list, or object for either.

    Raises:
        error: as `read_text`, or it holds something else; names the line.
    """
    return parse_json(read_text(path, error), kind, str(path), error)


@overload
def parse_json(
    text: str, kind: type[dict[Any, Any]], where: str, error: type[MllmError] = ..., *, expected: str = ...
) -> dict[str, Any]: ...
@overload
def parse_json(
    text: str, kind: type[list[Any]], where: str, error: type[MllmError] = ..., *, expected: str = ...
) -> list[Any]: ...
@overload
def parse_json(text: str, kind: type[T], where: str, error: type[MllmError] = ..., *, expected: str = ...) -> T: ...
def parse_json(
    text: str, kind: type[Any], where: str, error: type[MllmError] = DataError, *, expected: str = ""
) -> Any:
    """JSON text that stands at `where`, which must be a `kind`. `expected`: what messages call it.

    Raises:
        error: it is not JSON, is nested too deep, or is something else. Of several lines the message names the one.
    """
    expected = expected or JSON_NAMES[kind]
    try:
        value: Any = json.loads(text, object_pairs_hook=partial(_unique, where=where) if error is DataError else None)
    except json.JSONDecodeError as reason:
        place = f"{where}:{reason.lineno}" if "\n" in text.rstrip() else where
        found = _around(reason) if text.strip() else "nothing"
        raise error(where=place, expected=expected, found=found, kind="json") from reason
    except RecursionError as reason:
        raise error(where=where, expected=expected, found="one nested too deep", kind="json") from reason
    except ValueError as reason:  # Python reads no number of more than some thousand digits
        found = "a whole number of thousands of digits"
        raise error(where=where, expected=expected, found=found, kind="json") from reason
    if not isinstance(value, kind):
        raise error(where=where, expected=expected, found=type(value).__name__, kind="json")
    return value


def _unique(pairs: list[tuple[str, object]], *, where: str) -> dict[str, object]:
    """A JSON object of data, of which Python's reader would keep the last value of a key that stands twice."""
    record = dict(pairs)
    if len(record) != len(pairs):
        twin = Counter(key for key, _ in pairs).most_common(1)[0][0]
        raise DataError(where=where, expected="each key once", found=f"two {twin[:60]!r}", kind="duplicate-key")
    return record


def _around(reason: json.JSONDecodeError) -> str:
    """What stands where JSON breaks off, which may be far behind the beginning of its line."""
    before = max(reason.doc.rfind("\n", 0, reason.pos) + 1, reason.pos - 40)
    after = reason.doc[before : before + 60].partition("\n")[0]
    cut = "..." if before > reason.pos - reason.colno + 1 else ""
    return f"{cut + after!r}: {reason.msg} in column {reason.colno}"


def read_xml(path: str | Path, error: type[MllmError] = DataError) -> ElementTree.Element:
    """The root of a UTF-8 XML file. One that declares a document type is refused: entities may blow up when read.

    Raises:
        error: as `read_text`, or it is not such a file; names the line.
    """
    text = read_text(path, error)
    if "<!DOCTYPE" in text:
        raise error(where=str(path), expected="XML without a document type", found="<!DOCTYPE", kind="xml")
    try:
        return ElementTree.fromstring(text)
    except ElementTree.ParseError as reason:
        line = reason.position[0]
        raise error(where=f"{path}:{line}", expected="XML", found=str(reason), kind="xml") from reason
