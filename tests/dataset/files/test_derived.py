"""What the cache holds is made again where it is cut or something else, and may be read by everybody."""

from __future__ import annotations

import base64
import io
import json
import os
import stat
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mllm.dataset.files.base64_index import Base64ImageIndex
from mllm.dataset.files.derived import probes
from mllm.dataset.files.id_index import index_by_id
from mllm.dataset.files.jsonl import IndexedJsonl
from mllm.dataset.multiturn import SamePicture
from mllm.dataset.sets.rec import REC
from mllm.dataset.sets.shards import Shards

COUNT = 200
Read = Callable[[], list[Any]]


def lines(folder: Path) -> Read:
    path = folder / "a.jsonl"
    path.write_text("".join(json.dumps({"n": "x" * (n % 7)}) + "\n" for n in range(COUNT)) + "\n\n")
    return lambda: [dict(line) for line in IndexedJsonl(str(path))]


def array(folder: Path) -> Read:
    path = folder / "a.json"
    path.write_text(json.dumps([{"n": n} for n in range(COUNT)]))
    return lambda: [dict(line) for line in IndexedJsonl(str(path))]


def ids(folder: Path) -> Read:
    path = folder / "a.json"
    path.write_text(json.dumps({f"key{n}": {"n": n} for n in range(COUNT)}))

    def read() -> list[Any]:
        keys = index_by_id(IndexedJsonl(str(path), entries=()))
        return [keys.find(f"key{n}") for n in range(COUNT)]

    return read


def table(folder: Path) -> Read:
    path = folder / "a.json"
    path.write_text(json.dumps({f"key{n}": base64.b64encode(b"x" * n).decode() for n in range(COUNT)}))

    def read() -> list[Any]:
        images = Base64ImageIndex(str(path))
        return [images[f"key{n}"].read().getvalue() for n in range(COUNT)]

    return read


def parquet(folder: Path) -> Read:
    arrow = pytest.importorskip("pyarrow")
    writer = pytest.importorskip("pyarrow.parquet")
    path = folder / "a.parquet"
    codes = [base64.b64encode(b"x" * n).decode() for n in range(COUNT)]
    writer.write_table(arrow.table({"id": [f"key{n}" for n in range(COUNT)], "base64": codes}), str(path))

    def read() -> list[Any]:
        images = Base64ImageIndex(str(path))
        return [images[f"key{n}"].read().getvalue() for n in range(COUNT)]

    return read


def same_image(folder: Path) -> Read:
    questions = folder / "questions.json"
    questions.write_text('["<image> Where is <expr>?"]')
    path = folder / "a.jsonl"
    records = ({"img_path": f"{n % 9}.jpg", "expression": f"e{n}", "bbox": [0, 0, n + 1, 1]} for n in range(COUNT))
    path.write_text("".join(json.dumps(record) + "\n" for record in records))

    def read() -> list[Any]:
        dataset = SamePicture(dataset=REC(filename=str(path), questions=str(questions)))
        return [dataset[n].key for n in range(len(dataset))]

    return read


def shards(folder: Path) -> Read:
    questions = folder / "questions.json"
    questions.write_text('["<image> What?"]')
    image = io.BytesIO()
    Image.new("RGB", (4, 4)).save(image, "jpeg")
    with tarfile.open(folder / "a.tar", "w") as tar:
        for n in range(20):
            for name, data in ((f"{n:03}.jpg", image.getvalue()), (f"{n:03}.txt", f"text {n}".encode())):
                member = tarfile.TarInfo(name)
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))

    def read() -> list[Any]:
        dataset = Shards(filename=str(folder / "a.tar"), questions=str(questions))
        return [dataset[n].turns[-1].text for n in range(len(dataset))]

    return read


MAKE = (lines, array, ids, table, parquet, same_image, shards)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-9])


def save(path: Path, found: Any) -> None:
    with path.open("wb") as file:
        np.save(file, found)


def shift(path: Path) -> None:
    """An array of the same type and shape."""
    found = np.load(path)
    save(path, np.arange(found.size, dtype=found.dtype).reshape(found.shape) + 1)


def drop_row(path: Path) -> None:
    """A row, or a line, in the middle is gone; what is left is as it was."""
    if path.suffix == ".npy":
        content = path.read_bytes()
        found = np.load(path)
        with path.open("wb") as file:
            np.save(file, np.delete(found, len(found) // 2, axis=0))
            file.write(content[-16:])
    else:
        lines = path.read_bytes().splitlines(keepends=True)
        path.write_bytes(b"".join(lines[: len(lines) // 2] + lines[len(lines) // 2 + 1 :]))


def change_number(path: Path) -> None:
    """A number in the middle of an array is another; a text has a blank more."""
    content = bytearray(path.read_bytes())
    at = len(content) // 16 * 8 if path.suffix == ".npy" else len(content)
    content[at : at + 1] = bytes([content[at] ^ 1]) if at < len(content) else b" "
    path.write_bytes(bytes(content))


BREAK: dict[str, Callable[[Path], object]] = {
    "cut": cut,
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("garbage\n"),
    "zip": lambda path: path.write_bytes(b"PK\x03\x04" + bytes(100)),
    "objects": lambda path: save(path, np.array([{}], dtype=object)),
    "floats": lambda path: save(path, np.ones(COUNT + 1)),
    "a foreign array": lambda path: shift(path) if path.suffix == ".npy" else cut(path),
    "zeros": lambda path: save(path, np.zeros_like(np.load(path))) if path.suffix == ".npy" else cut(path),
    "a row gone": drop_row,
    "a number changed": change_number,
    "half": lambda path: save(path, np.load(path)[: COUNT // 2]) if path.suffix == ".npy" else cut(path),
}


def newest(cache: Path, kind: str) -> Path:
    return max((path for path in cache.iterdir() if path.suffix == kind), key=lambda path: path.stat().st_mtime_ns)


@pytest.mark.parametrize("fault", BREAK)
@pytest.mark.parametrize("make", MAKE)
def test_what_is_broken_is_made_again(make: Callable[[Path], Read], fault: str, tmp_path: Path, cache: Path) -> None:
    read = make(tmp_path)
    expected = read()
    assert len(expected) >= 20
    for kind in {path.suffix for path in cache.iterdir()}:
        entry = newest(cache, kind)  # a copy of lines that is made again is indexed again
        before = entry.read_bytes()
        BREAK[fault](entry)
        if entry.read_bytes() == before:
            continue
        assert read() == expected, entry.name
        assert newest(cache, kind).read_bytes() == before


@pytest.mark.parametrize("make", MAKE)
def test_a_pipe_in_the_place_of_an_entry_is_replaced(make: Callable[[Path], Read], tmp_path: Path, cache: Path) -> None:
    read = make(tmp_path)
    expected = read()
    for kind in {path.suffix for path in cache.iterdir()}:
        entry = newest(cache, kind)
        entry.unlink()
        os.mkfifo(entry)
        assert read() == expected, entry.name
        assert entry.is_file()


@pytest.mark.parametrize("make", MAKE)
def test_what_is_whole_is_not_made_again(make: Callable[[Path], Read], tmp_path: Path, cache: Path) -> None:
    read = make(tmp_path)
    read()
    before = {path: path.stat().st_mtime_ns for path in cache.iterdir()}
    read()
    assert {path: path.stat().st_mtime_ns for path in cache.iterdir()} == before


@pytest.mark.parametrize("umask", [0o022, 0o027, 0o077])
def test_entries_are_as_readable_as_the_umask_says(umask: int, tmp_path: Path, cache: Path) -> None:
    read = array(tmp_path)
    before = os.umask(umask)
    try:
        read()
    finally:
        os.umask(before)
    assert {stat.S_IMODE(path.stat().st_mode) for path in cache.iterdir()} == {0o666 & ~umask}


def test_an_entry_that_cannot_be_read_is_replaced(tmp_path: Path, cache: Path) -> None:
    read = lines(tmp_path)
    expected = read()
    (entry,) = cache.iterdir()
    entry.unlink()
    entry.symlink_to(tmp_path / "gone")
    assert read() == expected
    assert not entry.is_symlink()


@pytest.mark.parametrize("count", [0, 1, 2, 63, 64, 65, 10**9])
def test_probes_are_few_and_hold_both_ends(count: int) -> None:
    found = probes(count)
    assert found == sorted(set(found))
    assert len(found) == min(count, 64)
    assert not count or (found[0], found[-1]) == (0, count - 1)
