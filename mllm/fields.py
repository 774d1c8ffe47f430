"""Values of JSON records and config sections: read, checked against type annotations, and shown in messages.

An annotation says what a value may be: `int`, `list[str]`, `Literal["pad", "squash"]`, a dataclass, and bounds as in
`Annotated[int, Range(least=1)]`. `check` is the only judge of it; what it raises names the place inside the value.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, is_dataclass
from inspect import Parameter
from os import PathLike
from types import NoneType, UnionType
from typing import (
    Annotated,
    Any,
    Literal,
    Protocol,
    TypeGuard,
    TypeVar,
    Union,
    cast,
    get_args,
    get_origin,
    overload,
)

from mllm.errors import ConfigError, DataError, MllmError, nearest

T = TypeVar("T")

SHOWN = 60
"""Characters of a value that a message shows."""
LARGEST = 1 << 1023
"""Whole numbers up to this one are numbers that arithmetic with fractions can take."""
NAMES: dict[Any, tuple[str, str]] = {
    str: ("a text", "texts"),
    int: ("a whole number", "whole numbers"),
    float: ("a number", "numbers"),
    bool: ("True or False", "True or False"),
    list: ("a list", "lists"),
    tuple: ("a list", "lists"),
    dict: ("an object", "objects"),
    Mapping: ("a dict", "dicts"),
    Sequence: ("a list", "lists"),
    NoneType: ("None", "None"),
    object: ("a value", "values"),
    Any: ("a value", "values"),
}
"""What messages call a type: one of it, and several."""


class Rule(Protocol):
    """What `Annotated` may ask of a value beyond its type."""

    def check(self, value: Any, error: type[MllmError]) -> bool:
        """Whether the value keeps the rule; raises `error` where there is more to say."""
        ...

    def describe(self, kind: str) -> str:
        """What messages expect, `kind` being what they call the type."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """Bounds of a number."""

    least: float | None = None
    above: float | None = None
    most: float | None = None
    below: float | None = None

    def check(self, value: Any, error: type[MllmError]) -> bool:
        return (
            (self.least is None or value >= self.least)
            and (self.above is None or value > self.above)
            and (self.most is None or value <= self.most)
            and (self.below is None or value < self.below)
        )

    def describe(self, kind: str) -> str:
        if self.least is not None and self.most is not None:
            return f"{kind} from {self.least:,} to {self.most:,}"
        low = f"at least {self.least:,}" if self.least is not None else ""
        low = f"above {self.above:,}" if self.above is not None else low
        high = f"at most {self.most:,}" if self.most is not None else ""
        high = f"below {self.below:,}" if self.below is not None else high
        return f"{kind} {' and '.join(part for part in (low, high) if part)}"


@dataclass(frozen=True, slots=True)
class Fits:
    """Anything that `test` accepts; `expected` is what messages call it."""

    expected: str
    test: Callable[[Any], bool]

    def check(self, value: Any, error: type[MllmError]) -> bool:
        return self.test(value)

    def describe(self, kind: str) -> str:
        return self.expected


FULL = Fits("a list of at least one entry", lambda value: len(value) > 0)
Count = Annotated[int, Range(least=0)]
PositiveInt = Annotated[int, Range(least=1)]
NonNegative = Annotated[float, Range(least=0)]
Positive = Annotated[float, Range(above=0)]
Probability = Annotated[float, Range(least=0, most=1)]


def show(value: object) -> str:
    """A value as "found ..." names it: its type and the beginning of its text; None is "nothing"."""
    if value is None:
        return "nothing"
    if isinstance(value, int) and value.bit_length() > 4 * SHOWN:  # Python refuses to spell out the largest
        return f"{type(value).__name__} of {value.bit_length()} bits"
    try:
        return f"{type(value).__name__} {str(value)[:SHOWN]!r}"
    except ValueError:  # one of the largest is inside
        return f"{type(value).__name__} with a whole number of thousands of digits"


def is_finite(value: object) -> TypeGuard[float]:
    """Whether it is a finite number; True and False are none, nor are whole numbers that no float can hold."""
    if isinstance(value, int):
        return not isinstance(value, bool) and -LARGEST <= value <= LARGEST
    return isinstance(value, float) and math.isfinite(value)


def within(field: str, read: Callable[..., T], *arguments: Any) -> T:
    """`read(*arguments)`, whose errors are about something inside `field`."""
    try:
        return read(*arguments)
    except MllmError as error:
        raise error.inside(field) from error.__cause__


# the fields of a JSON record

ID = int | str
"""By which records refer to one another."""


Where = str | PathLike[str]


@overload
def field(
    record: object, name: str, kind: type[dict[Any, Any]], at: str = "", *, where: Where = ""
) -> dict[str, Any]: ...
@overload
def field(record: object, name: str, kind: type[list[Any]], at: str = "", *, where: Where = "") -> list[Any]: ...
@overload
def field(record: object, name: str, kind: type[T], at: str = "", *, where: Where = "") -> T: ...
@overload
def field(record: object, name: str, kind: object, at: str = "", *, where: Where = "") -> Any: ...
def field(record: object, name: str, kind: Any, at: str = "", *, where: Where = "") -> Any:
    """`record[name]`, which must be a `kind`, see `check`.

    Args:
        at: where `record` stands, if it is a part of a record.
        where: the file and the line, where nobody adds them later.

    Raises:
        DataError: names the field, what was expected and what was found; also where a part is no object.
    """
    try:
        if not isinstance(record, Mapping):
            raise DataError(field=at, expected="an object", found=show(record), kind="wrong-type")
        known = cast(Mapping[str, Any], record)
        if name not in known:
            raise DataError(field=named(name, at), expected=describe(kind), found=absent(known), kind="missing-field")
        value = known[name]
        if type(value) is not kind:
            within(named(name, at), check, value, kind, DataError)
    except DataError as error:
        if where:
            raise error.at(str(where)) from None
        raise
    return value


def number(record: object, name: str, at: str = "") -> float:
    """`record[name]`, which must be a finite number; see `field`."""
    value = field(record, name, object, at)
    if not is_finite(value):
        kind = "not-finite" if isinstance(value, (int, float)) and not isinstance(value, bool) else "wrong-type"
        raise DataError(field=named(name, at), expected="a finite number", found=show(value), kind=kind)
    return value


def absent(record: Mapping[str, Any]) -> str:
    """What is found where a field is not there."""
    return f"nothing (the record has {', '.join(map(str, record)) or 'no fields'})"


def named(name: str, at: str) -> str:
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


# values against annotations


def check(value: object, kind: Any, error: type[MllmError] = ConfigError) -> None:
    """Check a value against a type annotation.

    Lists and tuples are both lists; a whole number is a number, True and False are none; a dataclass is met by a dict
    of its fields. Numbers are finite. Types that say nothing of plain data (type variables, protocols that are not for
    run time, callables) accept anything.

    Raises:
        error: names the field inside the value, what was expected and what was found.
    """
    origin, members = get_origin(kind), get_args(kind)
    if origin is Annotated:
        check(value, members[0], error)
        for rule in members[1:]:
            if hasattr(rule, "check") and not rule.check(value, error):
                raise error(expected=describe(kind), found=show(value), kind="wrong-type")
    elif origin in (Union, UnionType):
        _check_union(value, members, error)
    elif origin is Literal:
        if not any(type(value) is type(member) and value == member for member in members):
            raise error(_near(value, members), expected=describe(kind), found=show(value), kind="wrong-type")
    elif is_dataclass(kind) and isinstance(value, Mapping):
        check_arguments(cast("Mapping[str, Any]", value), cast("Callable[..., Any]", kind), error)
    elif not _is_a(value, origin or kind):
        bad = "not-finite" if kind is float and isinstance(value, float) else "wrong-type"
        raise error(expected=describe(kind), found=show(value), kind=bad)
    elif isinstance(value, (list, tuple)) and members:
        _check_entries(cast("Sequence[object]", value), kind, error)
    elif isinstance(value, Mapping) and members:
        for name, entry in cast("Mapping[object, object]", value).items():
            check(name, members[0], error)
            within(str(name), check, entry, members[1], error)


def check_arguments(
    given: Mapping[str, Any],
    built: Callable[..., Any],
    error: type[MllmError] = ConfigError,
    *,
    also: Iterable[str] = (),
) -> None:
    """Check the arguments of a dataclass, a class or a function: unknown names, missing ones, and each value.

    `also`: names that are given elsewhere.
    """
    known = parameters(built)
    check_names(given, known, error)
    missing = [
        name
        for name, parameter in known.items()
        if parameter.default is Parameter.empty and name not in given and name not in also
    ]
    if missing:
        raise error(f"missing: {', '.join(missing)}", kind="missing-field")
    for name, value in given.items():
        if known[name].annotation is not Parameter.empty:
            within(name, check, value, known[name].annotation, error)


def check_names(section: Mapping[Any, Any], known: Iterable[str], error: type[MllmError] = ConfigError) -> None:
    """Raises `error` for a key that is not among those known; says which is near."""
    names = list(known)
    for name in section:
        if name not in names:
            raise error(f"unknown name; {nearest(str(name), names)}", field=str(name), kind="unknown-field")


def read_section(section: Mapping[str, Any], kind: type[T], error: type[MllmError] = ConfigError) -> T:
    """The dataclass of a dict, which is checked; a list becomes a tuple where the field is one."""
    check_arguments(section, kind, error)
    known = parameters(kind)
    given = {
        name: tuple(value) if _takes_tuple(value, known[name].annotation) else value for name, value in section.items()
    }
    return kind(**given)


def parameters(built: Callable[..., Any]) -> dict[str, Parameter]:
    """The named parameters of a dataclass, a class or a function, with their annotations evaluated.

    The annotations stay texts, which `check` takes for anything, where they name what a module imports for its type
    checker only.
    """
    try:
        found = inspect.signature(built, eval_str=True).parameters
    except NameError:
        found = inspect.signature(built).parameters
    return {name: p for name, p in found.items() if p.kind not in (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)}


def describe(kind: Any, *, several: bool = False) -> str:
    """What messages call the values of an annotation."""
    origin, members = get_origin(kind), get_args(kind)
    if origin is Annotated:
        name = describe(members[0], several=several)
        for rule in members[1:]:
            name = rule.describe(name) if hasattr(rule, "describe") else name
        return name
    if origin in (Union, UnionType):
        return _either(members, several=several)
    if origin is Literal:
        return ("one of " if len(members) > 1 else "") + ", ".join(map(repr, members))
    base = origin or kind
    if is_dataclass(base):
        base = Mapping
    name = NAMES[base][several] if base in NAMES else getattr(base, "__name__", str(base))
    if base is tuple and members and members[-1] is not Ellipsis:
        return f"{'lists' if several else 'a list'} of {len(members)} {describe(members[0], several=True)}"
    if base in (list, tuple, Sequence) and members and members[0] not in (Any, object):
        return f"{name} of {describe(members[0], several=True)}"
    return name


def _either(members: Sequence[Any], *, several: bool = False) -> str:
    names = [describe(member, several=several) for member in members]
    return " or ".join(dict.fromkeys(sorted(names, key=lambda name: name == "None")))


def _check_union(value: object, members: Sequence[Any], error: type[MllmError]) -> None:
    broken: list[MllmError] = []
    for member in members:
        try:
            return check(value, member, error)
        except error as found:
            broken.append(found)
    inside = [found for found in broken if found.field]
    if inside:  # it is of that kind, and something in it is wrong
        raise inside[0]
    hint = next((found.message for found in broken if found.message), "")
    raise error(hint, expected=_either(members), found=show(value), kind="wrong-type")


def _check_entries(values: Sequence[object], kind: Any, error: type[MllmError]) -> None:
    members = get_args(kind)
    if get_origin(kind) is tuple and members[-1] is not Ellipsis:
        if len(values) != len(members):
            raise error(expected=describe(kind), found=show(values), kind="wrong-type")
    else:
        members = (members[0],) * len(values)
    for number, (value, member) in enumerate(zip(values, members, strict=True)):
        within(f"[{number}]" if issubclass(error, DataError) else str(number), check, value, member, error)


def _is_a(value: object, kind: Any) -> bool:
    if kind is None or kind is NoneType:
        return value is None
    if kind is Any or kind is object or isinstance(kind, TypeVar):
        return True
    if kind is float:
        return is_finite(value)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if kind in (list, tuple, Sequence):
        return isinstance(value, (list, tuple))
    if not isinstance(kind, type):
        return True
    if getattr(kind, "_is_protocol", False) and not getattr(kind, "_is_runtime_protocol", False):
        return True
    return isinstance(value, kind)


def _near(value: object, members: Sequence[object]) -> str:
    found = nearest(str(value), [str(member) for member in members])
    return found if found.startswith("did you mean") else ""


def _takes_tuple(value: object, kind: Any) -> bool:
    members = get_args(kind) if get_origin(kind) in (Union, UnionType, Annotated) else (kind,)
    return isinstance(value, list) and any(get_origin(member) is tuple or member is tuple for member in members)
