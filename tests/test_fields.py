from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Annotated, Any, Literal

import pytest

from mllm.errors import ConfigError, DataError, ModelError
from mllm.fields import (
    FULL,
    Count,
    Fits,
    OneOf,
    PathName,
    Positive,
    PositiveInt,
    Probability,
    Range,
    Reads,
    check,
    check_arguments,
    describe,
    in_field,
    read_section,
    show,
)


class Size(Enum):
    SMALL = "small"
    LARGE = "large"


@dataclass(frozen=True, kw_only=True)
class Inner:
    side: PositiveInt
    colours: tuple[str, ...] = ("red",)


@dataclass(frozen=True, kw_only=True)
class Outer:
    inner: Inner
    several: Mapping[str, Inner | None] | None = None


def refuse(value: object) -> None:
    raise ConfigError("never")


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (3, int),
        (3, float),
        (0.5, float),
        (True, bool),
        (None, int | None),
        ("a", Literal["a", "b"]),
        ([1, 2], list[int]),
        ((1, 2), list[int]),
        ([1, 2], tuple[int, int]),
        ([], tuple[int, ...]),
        ({"a": 1}, Mapping[str, int]),
        ({"a": [None]}, dict[str, list[int | None]]),
        (1, Annotated[int, Range(least=1, most=1)]),
        (0, Probability),
        ("small", Size),
        (Size.SMALL, Size),
        ({"side": 3}, Inner),
        (Inner(side=3), Inner),
        ({"inner": {"side": 1}, "several": {"a": None, "b": {"side": 2}}}, Outer),
        (print, Callable[..., Any]),
        (object(), Any),
    ],
)
def test_check_accepts(value: object, kind: Any) -> None:
    check(value, kind)


@pytest.mark.parametrize(
    ("value", "kind", "message"),
    [
        (True, int, "expected a whole number, found bool 'True'"),
        (1.0, int, "expected a whole number, found float '1.0'"),
        (math.nan, float, "expected a number, found float 'nan'"),
        (10**400, float, "expected a number, found int of 1329 bits"),
        ("1", int | float, "expected a whole number or a number, found str '1'"),
        (0, PositiveInt, "expected a whole number of at least 1, found int '0'"),
        ("x", PositiveInt | None, "expected a whole number of at least 1 or None, found str 'x'"),
        (-1, Annotated[float, Range(above=0, most=1)], "expected a number above 0 and at most 1, found int '-1'"),
        (2, Probability, "expected a number from 0 to 1, found int '2'"),
        ("padd", Literal["pad", "squash"], "expected one of 'pad', 'squash', found str 'padd'; did you mean 'pad'?"),
        (1, Literal[True], "expected True, found int '1'"),
        ("tiny", Size, "expected one of 'small', 'large', found str 'tiny'"),
        ("abc", list[str], "expected a list of texts, found str 'abc'"),
        ([1, "2"], list[int], "1: expected a whole number, found str '2'"),
        ([1], tuple[int, int], "expected a list of 2 whole numbers, found list '[1]'"),
        ({"a": {"b": 1}}, Mapping[str, Mapping[str, str]], "a.b: expected a text, found int '1'"),
        ([], Annotated[list[int], FULL], "expected a non-empty list of whole numbers, found list '[]'"),
        ("", Annotated[str, Fits("some words", bool)], "expected some words, found str ''"),
        (1, Annotated[int, Reads("anything", refuse)], "never"),
        ({"sid": 3}, Inner, "sid: unknown name; did you mean 'side'?"),
        ({}, Inner, "side: expected a whole number of at least 1, found nothing"),
        ({"inner": {"side": 1, "colours": "red"}}, Outer, "inner.colours: expected a list of texts, found str 'red'"),
        (
            {"inner": {"side": 1}, "several": {"a": {"side": 0}}},
            Outer,
            "several.a.side: expected a whole number of at least 1, found int '0'",
        ),
        ([{"side": 1}, {"side": 0}], Sequence[Inner], "1.side: expected a whole number of at least 1, found int '0'"),
        (7, Inner | str, "expected a dict or a text, found int '7'"),
        (1 << 63, int, "expected a whole number of at most 64 bits, found int '9223372036854775808'"),
        (10**400, PositiveInt | None, "expected a whole number of at least 1 or None, found int of 1329 bits"),
        ("", PathName, "expected a path, found str ''"),
    ],
)
def test_check_refuses_with_place_expectation_and_finding(value: object, kind: Any, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check(value, kind)
    assert str(caught.value) == message


def test_check_counts_entries_of_records_in_brackets() -> None:
    with pytest.raises(DataError) as caught:
        check({"a": [1, "2"]}, dict[str, list[int]], DataError)
    assert caught.value.field == "a[1]"


def test_read_section_makes_lists_tuples() -> None:
    assert read_section({"side": 1, "colours": ["a"]}, Inner) == Inner(side=1, colours=("a",))


class Unknown:
    if False:
        from nowhere import Ink  # pyright: ignore[reportMissingImports]

    def __init__(self, *, width: PositiveInt, ink: Ink | int = 1) -> None: ...  # pyright: ignore


def test_check_arguments_of_code_whose_annotations_cannot_all_be_evaluated() -> None:
    check_arguments({"width": 1, "ink": object()}, Unknown)
    with pytest.raises(ConfigError, match="width: expected a whole number of at least 1, found int '0'"):
        check_arguments({"width": 0}, Unknown)


def test_check_arguments_given_elsewhere_are_not_taken() -> None:
    check_arguments({}, Unknown, also=("width",))
    with pytest.raises(ConfigError, match="width: unknown name; known: ink"):
        check_arguments({"width": 1}, Unknown, also=("width",))


def test_show_of_a_list_with_a_number_that_python_does_not_spell() -> None:
    assert show([10**5000]) == "list with a whole number of thousands of digits"


def test_describe_of_ranges() -> None:
    assert describe(Count) == "a whole number of at least 0"
    assert describe(Annotated[float, Range(least=0, below=1)]) == "a number of at least 0 and below 1"
    assert describe(list[Positive]) == "a list of numbers above 0"
    assert describe(Annotated[str, OneOf(("a", "b"))]) == "one of 'a', 'b'"


def test_within_names_the_field_of_any_error_of_ours() -> None:
    def broken() -> None:
        raise ModelError("x", field="b")

    with pytest.raises(ModelError) as caught:
        in_field("a", broken)
    assert caught.value.field == "a.b"
