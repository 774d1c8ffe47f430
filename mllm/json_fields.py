"""Fields of JSON records, read by name and checked against type annotations, and the texts in them."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from os import PathLike
from typing import Any, TypeVar, cast, overload

from mllm.errors import DataError, MllmError
from mllm.fields import check, describe, in_field, is_finite, show

T = TypeVar("T")

ID = int | str
"""By which records refer to one another."""
Where = str | PathLike[str]
BLANKS = "\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0"
"""Characters that show nothing, though Unicode calls them letters, marks or symbols."""


@overload
def field(
    record: object,
    name: str,
    kind: type[dict[Any, Any]],
    at: str = "",
    *,
    where: Where = "",
    error: type[MllmError] = ...,
) -> dict[str, Any]: ...
@overload
def field(
    record: object, name: str, kind: type[list[Any]], at: str = "", *, where: Where = "", error: type[MllmError] = ...
) -> list[Any]: ...
@overload
def field(
    record: object, name: str, kind: type[T], at: str = "", *, where: Where = "", error: type[MllmError] = ...
) -> T: ...
@overload
def field(
    record: object, name: str, kind: object, at: str = "", *, where: Where = "", error: type[MllmError] = ...
) -> Any: ...
def field(
    record: object,
    name: str,
    kind: Any,
    at: str = "",
    *,
    where: Where = "",
    error: type[MllmError] = DataError,
) -> Any:
    """`record[name]`, which must be a `kind`, see `check`.

    Args:
        at: where `record` stands, if it is a part of a record.
        where: the file and the line, where nobody adds them later.

    Raises:
        error: names the field, what was expected and what was found; also where a part is no object.
    """
    try:
        if not isinstance(record, Mapping):
            raise error(field=at, expected="an object", found=show(record), kind="wrong-type")
        known = cast(Mapping[str, Any], record)
        if name not in known:
            expected = "an object" if kind is dict else describe(kind)
            raise error(
                field=field_name(name, at), expected=expected, found=describe_absent(known), kind="missing-field"
            )
        value = known[name]
        if type(value) is not kind or kind in (int, float):  # of which some have no finite value, or too many bits
            if kind is dict:
                raise error(field=field_name(name, at), expected="an object", found=show(value), kind="wrong-type")
            in_field(field_name(name, at), check, value, kind, error)
    except error as broken:
        if where:
            raise broken.at(str(where)) from None
        raise
    return value


def number(record: object, name: str, at: str = "") -> float:
    """`record[name]`, which must be a finite number; see `field`."""
    value = field(record, name, object, at)
    if not is_finite(value):
        kind = "not-finite" if isinstance(value, (int, float)) and not isinstance(value, bool) else "wrong-type"
        raise DataError(field=field_name(name, at), expected="a finite number", found=show(value), kind=kind)
    return value


def describe_absent(record: Mapping[str, object]) -> str:
    """What is found where a field is not there."""
    return f"nothing (the record has {', '.join(map(str, record)) or 'no fields'})"


def field_name(name: str, at: str) -> str:
    """A field as messages call it; `at` as `field` takes it."""
    return f"{at}.{name}" if at else name


def text(value: object) -> str:
    """The value, which must be a text of whole characters: JSON may hold one that was cut between two `\\u` escapes."""
    if not isinstance(value, str):
        raise DataError(expected="a text", found=show(value), kind="wrong-type")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        half = f"\\u{ord(value[error.start]):04x}"
        found = f"half a character, {half}, behind {error.start} others"
        raise DataError(expected="a text", found=found, kind="half-character") from None
    return value


def is_blank(text: str) -> bool:
    """Whether a text shows nothing: white space, controls, marks of direction, fillers."""
    return all(char.isspace() or char in BLANKS or unicodedata.category(char) in ("Cc", "Cf") for char in text)
