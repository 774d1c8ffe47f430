"""The records of files of answers: JSON, JSON lines, texts, tables and workbooks."""

from __future__ import annotations

import csv
import importlib
import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from zipfile import BadZipFile

from mllm.dataset.files.jsonl import IndexedJsonl
from mllm.errors import ConfigError, DataError
from mllm.files import check_file, read_json, read_text

TABLES = (".tsv", ".csv")


def records_of(path: str) -> Iterator[tuple[Mapping[str, object], str]]:
    """Each record of a file, by its suffix, and where it stands.

    Raises:
        DataError: the file cannot be read, or is of another kind.
        ConfigError: a package is missing that reads it.
    """
    suffix = Path(path).suffix.lower()
    if suffix == ".txt":
        for number, line in enumerate(io.StringIO(read_text(path), newline=None), start=1):  # not at U+2028 and others
            yield {"text": line.removesuffix("\n")}, f"{path}:{number}"
    elif suffix in TABLES:
        csv.field_size_limit(1 << 28)  # a table may hold images
        yield from _rows_of(path, "\t" if suffix == ".tsv" else ",")
    elif suffix == ".xlsx":
        yield from _rows_of_workbook(path)
    elif suffix in (".jsonl", ".json"):
        texts = read_json(path, list) if suffix == ".json" and read_text(path).lstrip().startswith("[") else None
        if texts is not None and all(isinstance(each, str) for each in texts):
            yield from (({"text": text}, f"{path}[{number}]") for number, text in enumerate(texts))
            return
        lines = IndexedJsonl(path)
        yield from ((lines[number], lines.where(number)) for number in range(len(lines)))
    else:
        expected = f".jsonl, .json, .txt, .xlsx, {', '.join(TABLES)}"
        raise DataError(where=path, expected=expected, found=suffix or "no suffix", kind="unsupported")


def _rows_of(path: str, delimiter: str) -> Iterator[tuple[Mapping[str, object], str]]:
    """The rows of a table, and the lines that they end in."""
    rows = csv.DictReader(io.StringIO(read_text(path), newline=""), delimiter=delimiter, strict=True)
    try:
        for row in rows:
            where, columns = f"{path}:{rows.line_num}", len(rows.fieldnames or ())
            cells = sum(value is not None for name, value in row.items() if name is not None) + len(row.get(None) or ())  # pyright: ignore
            if cells != columns:
                raise DataError(where=where, expected=f"{columns} fields, as the first line has", found=str(cells))
            yield row, where
    except csv.Error as error:
        raise DataError(where=f"{path}:{rows.line_num + 1}", expected="a row of the table", found=str(error)) from None


def _rows_of_workbook(path: str) -> Iterator[tuple[Mapping[str, object], str]]:
    """The rows of the first sheet of an Excel workbook, whose first row names the columns."""
    check_file(path)
    try:
        openpyxl = importlib.import_module("openpyxl")
    except ImportError as error:
        message = "a workbook needs a package that is missing: pip install 'mllm[xlsx]'"
        raise ConfigError(message, where=path) from error
    try:
        rows = list(openpyxl.load_workbook(path, read_only=True, data_only=True).worksheets[0].values)
    except (OSError, ValueError, KeyError, IndexError, BadZipFile) as error:
        raise DataError(where=path, expected="an Excel workbook", found=str(error) or type(error).__name__) from error
    names = [name for name in rows[0] if name is not None] if rows else []
    for number, row in enumerate(rows[1:], start=2):
        if any(cell is not None for cell in row):
            yield dict(zip(names, row, strict=False)), f"{path}:{number}"
