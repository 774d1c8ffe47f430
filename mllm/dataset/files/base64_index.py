"""Images in base64 inside one big file, found by id without reading the file."""

from __future__ import annotations

import importlib
import importlib.util
import json
import mmap
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mllm.cache import complete
from mllm.dataset.files.derived import cached, cached_array, is_sealed, probes, seal
from mllm.dataset.files.id_index import Keys, key_table, may_be_keys
from mllm.errors import ConfigError, DataError, ImageError
from mllm.files import check_file, unreadable_file
from mllm.images.embedded import Base64Image

ENTRY = re.compile(rb'\s*("(?:[^"\\]|\\.)*")\s*:\s*"([^"\\]*)"\s*([,}])')
"""`"key": "base64",`"""


class Base64ImageIndex:
    """`{id: base64}` as a JSON object, or a parquet table with the ids as its index (or `id`) and a column `base64`.

    Where the images of a JSON file lie is kept in the cache; a parquet table is copied into the cache as JSON.

    Raises:
        DataError: no such file, or not such a one.
        ImageError: on access: an unknown id.
        ConfigError: a parquet table, but no package to read it.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        check_file(path)
        try:
            self._file = _json_of_table(path) if Path(path).suffix == ".parquet" else Path(path)
            spans = cached_array(
                self._file,
                ".spans.npy",
                "image positions",
                lambda: key_table(_spans(self._file, path), source=path),
                self._are_spans,
            )
        except OSError as error:
            raise unreadable_file(path, error) from error
        self._keys = Keys(spans)

    def __len__(self) -> int:
        return len(self._keys)

    def __getitem__(self, key: str) -> Base64Image:
        span = self._keys.find(key)
        if span is None:
            raise ImageError(
                where=self.path, expected=f"the image {key[:60]!r}", found="none of this id", kind="missing-image"
            )
        return Base64Image(path=str(self._file), start=span[0], end=span[1], name=key)

    def __reduce__(self) -> tuple[type[Base64ImageIndex], tuple[str]]:
        return Base64ImageIndex, (self.path,)

    def _are_spans(self, found: NDArray[np.int64]) -> bool:
        """Whether texts of the file lie there, between quotes, as far as some of them show."""
        if not may_be_keys(found, 2):
            return False
        with self._file.open("rb") as source:
            ends = [place for _, start, end in found[probes(len(found))].tolist() for place in (start - 1, end)]
            return min(ends) >= 0 and all(os.pread(source.fileno(), 1, place) == b'"' for place in ends)


def _spans(file: Path, name: str) -> Iterator[tuple[str, tuple[int, int]]]:
    """Each key with the first byte of its text, and the one after its last."""
    if not file.stat().st_size:
        raise DataError(where=name, expected="a JSON object", found="an empty file", kind="empty-file")
    with file.open("rb") as source, mmap.mmap(source.fileno(), 0, access=mmap.ACCESS_READ) as text:
        start = re.compile(rb"(?:\xef\xbb\xbf)?\s*\{").match(text)
        if start is None:
            raise DataError(where=name, expected="a JSON object", found=repr(text[:40]), kind="json")
        position, closed = start.end(), False
        while not closed:
            entry = ENTRY.match(text, position)
            if entry is None:
                found = text[position : position + 40]
                place, expected = f"{name}: byte {position}", '"id": "base64"'
                raise DataError(where=place, expected=expected, found=repr(found), kind="json")
            yield json.loads(entry[1]), entry.span(2)
            position, closed = entry.end(), entry[3] == b"}"
        if rest := text[position:].strip():
            place = f"{name}: byte {position}"
            raise DataError(where=place, expected="the end", found=repr(rest[:40]), kind="json")


def _json_of_table(path: str) -> Path:
    copy = cached(Path(path), ".json")
    if is_sealed(copy):
        return copy
    if importlib.util.find_spec("pyarrow") is None:
        raise ConfigError("parquet needs a package that is missing: pip install pyarrow", where=path)
    pyarrow: Any = importlib.import_module("pyarrow")  # an extra
    parquet: Any = importlib.import_module("pyarrow.parquet")
    try:
        table = parquet.ParquetFile(path)
    except pyarrow.ArrowInvalid as error:
        raise DataError(f"not a parquet table: {error}", where=path, kind="unreadable-file") from error
    names: list[str] = table.schema_arrow.names
    pandas: Any = table.schema_arrow.pandas_metadata or {}
    index: str = (pandas.get("index_columns") or ["id"])[0]
    if index not in names or "base64" not in names:
        expected = "the ids as index, or a column 'id', and a column 'base64'"
        raise DataError(where=path, expected=expected, found=str(names), kind="missing-field")
    kind = table.schema_arrow.field("base64").type
    if not (pyarrow.types.is_string(kind) or pyarrow.types.is_large_string(kind)):
        raise DataError(where=path, field="base64", expected="texts", found=str(kind), kind="wrong-type")
    with complete(copy, "images") as target:
        separator = b"{"
        for batch in table.iter_batches(batch_size=256, columns=[index, "base64"]):
            keys, images = (batch.column(name).to_pylist() for name in (index, "base64"))
            for key, image in zip(keys, images, strict=True):
                target.write(separator + json.dumps(str(key)).encode() + b": " + json.dumps(image).encode())
                separator = b",\n"
        target.write(b"}")
        seal(target)
    return copy
