from __future__ import annotations

import math

import pytest

from mllm.errors import DataError, ModelError
from mllm.fields import (
    is_finite,
)
from mllm.json_fields import field, number, text


def test_field_reads_and_names() -> None:
    record = {"a": {"b": 3}, "c": ["x", 1]}
    assert field(record, "a", dict) == {"b": 3}
    assert field(record["a"], "b", int, "a") == 3
    for read, message in (
        (lambda: field(record, "d", str), "d: expected a text, found nothing (the record has a, c)"),
        (lambda: field(record, "c", list[str]), "c[1]: expected a text, found int '1'"),
        (lambda: field(record, "a", str), "a: expected a text, found dict \"{'b': 3}\""),
        (lambda: field(record, "c", dict, where="f.json"), "f.json: c: expected an object, found list \"['x', 1]\""),
        (lambda: field({"n": math.nan}, "n", float), "n: expected a number, found float 'nan'"),
        (lambda: field([], "c", dict, "a"), "a: expected an object, found list '[]'"),
    ):
        with pytest.raises(DataError) as caught:
            read()
        assert str(caught.value) == message
    with pytest.raises(ModelError, match="d: expected a whole number, found nothing"):
        field(record, "d", int, error=ModelError)


@pytest.mark.parametrize("value", [True, "1", None, math.nan, math.inf, 10**400, -(10**4000)])
def test_number_is_finite(value: object) -> None:
    assert not is_finite(value)
    with pytest.raises(DataError, match="n: expected a finite number, found"):
        number({"n": value}, "n")


def test_text_is_whole() -> None:
    assert text("é") == "é"
    with pytest.raises(DataError, match=r"half a character, \\ud83d, behind 1 others") as caught:
        text("a\ud83d")
    assert caught.value.kind == "half-character"
