from __future__ import annotations

import os
from pathlib import Path

import pytest

from mllm.errors import ConfigError, DataError, ModelError
from mllm.files import complete_lines, read_json, read_text, read_xml

BROKEN = [
    (b"", "expected a JSON object, found nothing", "json"),
    (b" \n", "expected a JSON object, found nothing", "json"),
    (b'{"a": ', "expected a JSON object, found '{\"a\": ': Expecting value in column 7", "json"),
    (b'{\n"a": 1,\n}', ":3: expected a JSON object, found '}': ", "json"),
    (b"[1]", "expected a JSON object, found list", "json"),
    (b"null", "expected a JSON object, found NoneType", "json"),
    (b'{"a": "\xff"}', "expected UTF-8, found byte 0xff in column 8", "encoding"),
    (b'{"a": 1}\n"\xff', "expected UTF-8, found byte 0xff in line 2, column 2", "encoding"),
    (b"[" * 100_000, "expected a JSON object, found one nested too deep", "json"),
    (b'{"a": ' + b"9" * 10_000 + b"}", "found a whole number of thousands of digits", "json"),
    (b'{"a": 1, "b": {"c": 1, "d": 2, "c": 3}}', "expected each key once, found two 'c'", "duplicate-key"),
    (bytes(range(256)), "expected UTF-8, found byte 0x80 in line 2, column 118", "encoding"),
]


@pytest.mark.parametrize(("content", "message", "kind"), BROKEN)
def test_read_json_of_a_broken_file_is_one_line(tmp_path: Path, content: bytes, message: str, kind: str) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        read_json(path, dict)
    assert str(caught.value).startswith(str(path))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.kind == kind


def test_read_json_reads_with_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b'\xef\xbb\xbf{"a": NaN}')
    assert list(read_json(tmp_path / "a.json", dict)) == ["a"]


@pytest.mark.parametrize("error", [DataError, ConfigError, ModelError])
def test_read_text_of_what_is_no_file(tmp_path: Path, error: type[DataError]) -> None:
    os.mkfifo(tmp_path / "pipe")
    os.symlink(tmp_path / "loop", tmp_path / "loop")
    for name, message in (
        ("none", "none: cannot be read: No such file or directory"),
        ("none/deeper", "deeper: cannot be read: No such file or directory"),
        (".", "expected a file, found a folder"),
        ("pipe", "pipe: expected a file, found a pipe, a socket or a device"),
        ("loop", "loop: cannot be read: Too many levels of symbolic links"),
        ("a\0b", r"a\x00b: cannot be read: embedded null byte"),
    ):
        with pytest.raises(error) as caught:
            read_text(tmp_path / name, error)
        assert message in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'<!DOCTYPE a [<!ENTITY b "x">]><a>&b;</a>', "expected XML without a document type, found <!DOCTYPE"),
        ('<!DOCTYPE a [<!ENTITY b "x">]><a/>'.encode("utf-16"), "expected UTF-8, found byte 0xff"),
        (b"<a>&b;</a>", ":1: expected XML, found undefined entity"),
        (b"<a>\n<b></a>", ":2: expected XML, found mismatched tag"),
        (b"", "expected XML, found no element found"),
    ],
)
def test_read_xml_refuses_entities_and_names_the_line(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "a.xml").write_bytes(content)
    with pytest.raises(DataError) as caught:
        read_xml(tmp_path / "a.xml")
    assert f"a.xml{message if message.startswith(':') else ''}" in str(caught.value)
    assert message in str(caught.value)


def test_read_xml_gives_the_root(tmp_path: Path) -> None:
    (tmp_path / "a.xml").write_text('<?xml version="1.0"?><a><b>é</b></a>', encoding="utf-8")
    assert read_xml(tmp_path / "a.xml").findtext("b") == "é"


@pytest.mark.parametrize(
    ("content", "lines"), [(b"", []), (b"a\nb\n", [b"a\n", b"b\n"]), (b"a\nb", [b"a\n"]), (b"a", [])]
)
def test_whole_lines_leaves_out_one_that_was_cut(tmp_path: Path, content: bytes, lines: list[bytes]) -> None:
    (tmp_path / "a.jsonl").write_bytes(content)
    assert complete_lines(tmp_path / "a.jsonl") == lines
