import pickle
import re
from pathlib import Path

import pytest

from mllm.commands.data.faults import SEEN, WARNINGS
from mllm.errors import KINDS, ConfigError, DataError, ImageError, MllmError
from mllm.fields import show


def test_message_is_made_of_where_field_expected_and_found() -> None:
    error = DataError(where="train.jsonl:12", field="bbox", expected="4 numbers", found=show("x"), kind="coordinates")
    assert str(error) == "train.jsonl:12: bbox: expected 4 numbers, found str 'x'"
    assert error.kind == "coordinates"


def test_plain_message_stands_alone_or_behind_what_was_found() -> None:
    assert str(ConfigError("no such file")) == "no such file"
    assert str(ConfigError("choose one", field="a", expected="b", found="c")) == "a: expected b, found c; choose one"


def test_at_and_inside_name_the_place_without_changing_the_error() -> None:
    inner = DataError(field="boxes[0]", expected="x", found="y")
    outer = inner.inside("target").at("a.jsonl:3")
    assert (outer.where, outer.field) == ("a.jsonl:3", "target.boxes[0]")
    assert outer.at("a.jsonl:3").where == "a.jsonl:3"
    assert (inner.where, inner.field) == ("", "boxes[0]")
    assert DataError(field="[2]").inside("boxes").field == "boxes[2]"


def test_at_and_inside_put_a_place_of_its_own_into_the_message() -> None:
    inner = ImageError("no such image", where="b.jpg", kind="missing-image")
    outer = inner.inside("image").at("a.jsonl:3")
    assert (outer.where, outer.field, outer.kind) == ("a.jsonl:3", "image", "missing-image")
    assert str(outer) == "a.jsonl:3: image: b.jpg: no such image"


def test_a_message_is_one_line() -> None:
    assert str(DataError("a\nb", where="c\x1b[2J.jpg")) == "c\\x1b[2J.jpg: a\\nb"


@pytest.mark.parametrize("kind", [MllmError, ConfigError, ImageError])
def test_errors_cross_processes_whole(kind: type[MllmError]) -> None:
    error = kind("m", kind="k", where="w", field="f", expected="e", found="o")
    again = pickle.loads(pickle.dumps(error))  # noqa: S301, our own bytes
    assert type(again) is kind
    assert again.__dict__ == error.__dict__
    assert str(again) == str(error)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "nothing"),
        (3, "int '3'"),
        ("a" * 100, f"str {'a' * 60!r}"),
        pytest.param(10**5000, "int of 16610 bits", id="huge"),
    ],
)
def test_show(value: object, shown: str) -> None:
    assert show(value) == shown


def test_the_page_of_errors_names_every_kind() -> None:
    page = (Path(__file__).parents[1] / "docs" / "errors.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `([a-z-]+)` \| (.*) \|$", page, re.MULTILINE))
    assert rows == {**KINDS, **SEEN, **WARNINGS}
