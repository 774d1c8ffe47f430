from __future__ import annotations

import json
import os
import pickle
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mllm.dataset.files import jsonl as module
from mllm.dataset.files.jsonl import IndexedJsonl
from mllm.errors import ConfigError, DataError

RECORDS = st.lists(st.dictionaries(st.text(max_size=5), st.text(max_size=20), max_size=3), min_size=1, max_size=20)


def write(folder: Path, content: bytes, name: str = "a.jsonl") -> str:
    path = folder / name
    path.write_bytes(content)
    return str(path)


@given(records=RECORDS, bom=st.booleans(), newline=st.sampled_from(["\n", "\r\n"]), blank=st.integers(0, 3))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_way_of_writing_lines_reads_the_same(
    tmp_path: Path, records: list[dict[str, str]], bom: bool, newline: str, blank: int
) -> None:
    text = newline.join(json.dumps(record, ensure_ascii=False) for record in records) + newline * blank
    path = write(tmp_path, text.encode("utf-8-sig" if bom else "utf-8", "replace"))
    os.utime(path, ns=(0, hash(text) % 10**12))  # the same name anew, within one tick of the clock
    lines = IndexedJsonl(path)
    assert len(lines) == len(records)
    assert [lines[n] for n in range(len(lines))] == [json.loads(json.dumps(r).encode()) for r in records]


def test_lines_longer_than_a_chunk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_CHUNK_BYTES", 7)
    records = [{"a": "x" * n} for n in range(30)]
    lines = IndexedJsonl(write(tmp_path, b"".join(json.dumps(r).encode() + b"\n" for r in records)))
    assert [lines[n] for n in range(30)] == records


@pytest.mark.parametrize("content", [b"", b"\n", b"\xef\xbb\xbf", b"\r\n  \n"])
def test_a_file_without_records(tmp_path: Path, content: bytes) -> None:
    path = write(tmp_path, content)
    with pytest.raises(DataError) as caught:
        IndexedJsonl(path)
    assert str(caught.value) == f"{path}: expected at least one record, found none"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"a": ', "expected a JSON object, found '{\"a\":': Expecting value in column 6"),
        (b"", "expected a JSON object, found a blank line"),
        (b"[1]", "expected a JSON object, found list"),
        (b'{"a": 1} {"a": 2}', 'expected a JSON object, found \'{"a": 1} {"a": 2}\': Extra data in column 10'),
        (b'{"a": "\xe9"}', "expected UTF-8, found byte 0xe9 in column 8"),
        (b"[" * 100_000, "expected a JSON object, found one nested too deep"),
    ],
)
def test_a_bad_line_says_where(tmp_path: Path, line: bytes, message: str) -> None:
    path = write(tmp_path, b'{"a": 1}\n' + line + b'\n{"a": 3}\n')
    lines = IndexedJsonl(path)
    assert len(lines) == 3
    assert lines[2] == {"a": 3}
    with pytest.raises(DataError) as caught:
        lines[1]
    assert str(caught.value) == f"{path}:2: {message}"


def test_indices_out_of_range(jsonl: Callable[..., str]) -> None:
    lines = IndexedJsonl(jsonl({"a": 1}))
    for index in (-1, 1):
        with pytest.raises(IndexError, match=f"record {index} of 1"):
            lines[index]
    assert [line for line in lines] == [{"a": 1}]  # noqa: C416  (iteration by index)


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"missing\.jsonl: cannot be read: No such file or directory"):
        IndexedJsonl(str(tmp_path / "missing.jsonl"))


def test_an_array_is_read_like_lines(tmp_path: Path, cache: Path) -> None:
    records = [{"text": "é\n\ud800"}, {"text": "b"}]
    path = write(tmp_path, json.dumps(records, indent=2).encode(), "a.json")
    lines = IndexedJsonl(path)
    assert [lines[0], lines[1]] == records
    assert lines.where(1) == f"{path}[1]"
    assert sorted(p.suffix for p in cache.iterdir()) == [".jsonl", ".npy"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            b'{"a": 1}\n[2]\n',
            ":2: expected one JSON array (a file of lines is named .jsonl), found '[2]': Extra data in column 1",
        ),
        (
            b'{"a": 1\n}\n{"a": 2}\n',
            ":3: expected one JSON array (a file of lines is named .jsonl), found '{\"a\": 2}': Extra data in column 1",
        ),
        (
            b"[" + b'{"a": 1}, ' * 9 + b'{"a": }]',
            ": expected one JSON array (a file of lines is named .jsonl), "
            'found \'...1}, {"a": 1}, {"a": 1}, {"a": 1}, {"a": }]\': Expecting value in column 98',
        ),
        (b"[" * 100_000, ": expected one JSON array (a file of lines is named .jsonl), found one nested too deep"),
        (b'{"a": 1}', ": expected one JSON array (a file of lines is named .jsonl), found dict"),
        (b"[]", ": expected at least one record, found none"),
    ],
)
def test_a_bad_array(tmp_path: Path, content: bytes, message: str) -> None:
    path = write(tmp_path, content, "a.json")
    with pytest.raises(DataError) as caught:
        IndexedJsonl(path)
    assert str(caught.value) == path + message


@pytest.mark.parametrize("start", [b"", b"\xef\xbb\xbf"])
def test_lines_in_a_file_that_is_named_json(tmp_path: Path, cache: Path, start: bytes) -> None:
    path = write(tmp_path, start + b'{"a": 1}\r\n{"a": 2}\n{"a": \n', "coco_pope_random.json")
    lines = IndexedJsonl(path)
    assert [lines[0], lines[1]] == [{"a": 1}, {"a": 2}]
    with pytest.raises(DataError, match=r"coco_pope_random\.json:3: expected a JSON object"):
        lines[2]
    assert [p.suffix for p in cache.iterdir()] == [".npy"]


def test_an_entry_that_is_no_object(tmp_path: Path) -> None:
    path = write(tmp_path, b'[{"a": 1}, 5]', "a.json")
    with pytest.raises(DataError) as caught:
        IndexedJsonl(path)[1]
    assert str(caught.value) == f"{path}[1]: expected a JSON object, found int"


def test_the_file_is_scanned_once(jsonl: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    path = jsonl({"a": 1}, {"a": 2})
    IndexedJsonl(path)

    def no_scan(source: Any) -> None:
        raise AssertionError("scanned again")

    monkeypatch.setattr(module, "_scan", no_scan)
    assert len(IndexedJsonl(path)) == 2


def test_a_changed_file_is_scanned_again(jsonl: Callable[..., str]) -> None:
    path = jsonl({"a": 1})
    assert len(IndexedJsonl(path)) == 1
    assert len(IndexedJsonl(jsonl({"a": 1}, {"b": 2}))) == 2


def test_a_cache_that_cannot_be_written(jsonl: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    path = jsonl({"a": 1})
    monkeypatch.setenv("MLLM_CACHE", f"{path}/cache")
    with pytest.raises(
        ConfigError, match=r"the cache of line positions cannot be written \(MLLM_CACHE names another\)"
    ):
        IndexedJsonl(path)


def test_positions_stay_on_disk_and_out_of_the_pickle(jsonl: Callable[..., str], cache: Path) -> None:
    lines = IndexedJsonl(jsonl(*({"n": n} for n in range(1000))))
    assert len(pickle.dumps(lines)) < 400
    assert isinstance(lines._starts.base, np.memmap)
    copy = pickle.loads(pickle.dumps(lines))  # noqa: S301
    assert copy[999] == {"n": 999}
    assert not list(cache.glob("*.tmp*"))


def first_and_last(lines: IndexedJsonl) -> tuple[Any, Any]:
    return lines[0], lines[len(lines) - 1]


def test_workers_share_the_records(jsonl: Callable[..., str]) -> None:
    lines = IndexedJsonl(jsonl(*({"n": n} for n in range(100))))
    with ProcessPoolExecutor(2, mp_context=get_context("fork")) as pool:
        assert list(pool.map(first_and_last, [lines] * 8)) == [({"n": 0}, {"n": 99})] * 8


def test_records_by_id(tmp_path: Path) -> None:
    path = tmp_path / "data.json"
    path.write_text(json.dumps({"meta": 1, "data": {"a": {"id": "other", "n": 1}, "b": {"n": 2}}}))
    lines = IndexedJsonl(str(path), entries=("data",))
    assert [lines[n] for n in range(2)] == [{"id": "a", "n": 1}, {"id": "b", "n": 2}]
    assert lines.where(1) == f"{path}[1]"
    assert pickle.loads(pickle.dumps(lines))[1] == lines[1]  # noqa: S301
    assert IndexedJsonl(str(path), entries=())[0] == {"id": "meta", "value": 1}
    with pytest.raises(DataError, match="rows: expected a value, found nothing"):
        IndexedJsonl(str(path), entries=("rows",))
    with pytest.raises(DataError, match="expected an object of records by id, found int"):
        IndexedJsonl(str(path), entries=("meta",))


def test_an_array_inside_an_object(tmp_path: Path) -> None:
    path = tmp_path / "questions.json"
    path.write_text('{"info": {}, "questions": [{"a": 1}, {"a": 2}]}')
    lines = IndexedJsonl(str(path), ("questions",))
    assert [lines[0], lines[1]] == [{"a": 1}, {"a": 2}]
    assert lines.where(1) == f"{path}[1]"
