"""Values of configs and records, checked against type annotations and shown in messages; `json_fields.py` reads them.

An annotation says what a value may be: `int`, `list[str]`, `Literal["pad", "squash"]`, a dataclass, and bounds as in
`Annotated[int, Range(least=1)]`. `check` is the only judge of it; what it raises names the place inside the value.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, is_dataclass
from enum import Enum
from inspect import Parameter
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
)

from mllm.errors import ConfigError, DataError, MllmError, nearest
from mllm.signatures import parameters_of

T = TypeVar("T")

MAX_SHOWN = 60
"""Characters of a value that a message shows."""
LARGEST = 1 << 1023
"""Whole numbers up to this one are numbers that arithmetic with fractions can take."""
LARGEST_INT = 1 << 63
"""Whole numbers below this one fit where libraries count."""
TYPE_NAMES: dict[Any, tuple[str, str]] = {
    str: ("a text", "texts"),
    int: ("a whole number", "whole numbers"),
    float: ("a number", "numbers"),
    bool: ("True or False", "True or False"),
    list: ("a list", "lists"),
    tuple: ("a list", "lists"),
    dict: ("a dict", "dicts"),
    Mapping: ("a dict", "dicts"),
    Sequence: ("a list", "lists"),
    NoneType: ("None", "None"),
    object: ("a value", "values"),
    Any: ("a value", "values"),
}
"""What messages call a type: one of it, and several."""


class Rule(Protocol):
    """What `Annotated` may ask of a value beyond its type."""

    def check(self, value: object, error: type[MllmError]) -> bool:
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
        low = f"of at least {self.least:,}" if self.least is not None else ""
        low = f"above {self.above:,}" if self.above is not None else low
        high = f"at most {self.most:,}" if self.most is not None else ""
        high = f"below {self.below:,}" if self.below is not None else high
        return f"{kind} {' and '.join(part for part in (low, high) if part)}"


@dataclass(frozen=True, slots=True)
class Fits:
    """Anything that `test` accepts; `expected` is what messages call it."""

    expected: str
    test: Callable[[Any], object]

    def check(self, value: object, error: type[MllmError]) -> bool:
        return bool(self.test(value))

    def describe(self, kind: str) -> str:
        return self.expected


@dataclass(frozen=True, slots=True)
class Full:
    """At least one entry, or character."""

    def check(self, value: Any, error: type[MllmError]) -> bool:
        return len(value) > 0

    def describe(self, kind: str) -> str:
        return f"a non-empty {kind[2:]}" if kind.startswith("a ") else f"non-empty {kind}"


@dataclass(frozen=True, slots=True)
class OneOf:
    """One of several values; messages name the nearest."""

    values: tuple[object, ...]

    def check(self, value: object, error: type[MllmError]) -> bool:
        if value not in self.values:
            hint = _near(value, self.values)
            raise error(hint, expected=self.describe(""), found=show(value), kind="wrong-type")
        return True

    def describe(self, kind: str) -> str:
        return f"one of {', '.join(map(repr, self.values))}"


@dataclass(frozen=True, slots=True)
class Reads:
    """Anything that `read` takes, which raises an error of ours for anything else."""

    expected: str
    read: Callable[[Any], object]

    def check(self, value: object, error: type[MllmError]) -> bool:
        self.read(value)
        return True

    def describe(self, kind: str) -> str:
        return self.expected


FULL = Full()
Count = Annotated[int, Range(least=0)]
PositiveInt = Annotated[int, Range(least=1)]
NonNegative = Annotated[float, Range(least=0)]
Positive = Annotated[float, Range(above=0)]
Probability = Annotated[float, Range(least=0, most=1)]
PathName = Annotated[str, Fits("a path", re.compile(r"[^\0\ud800-\udfff]+").fullmatch)]


def show(value: object) -> str:
    """A value as "found ..." names it: its type and the beginning of its text; None is "nothing"."""
    if value is None:
        return "nothing"
    if isinstance(value, int) and value.bit_length() > 4 * MAX_SHOWN:  # Python refuses to spell out the largest
        return f"{type(value).__name__} of {value.bit_length()} bits"
    try:
        return f"{type(value).__name__} {str(value)[:MAX_SHOWN]!r}"
    except ValueError:  # one of the largest is inside
        return f"{type(value).__name__} with a whole number of thousands of digits"


def is_finite(value: object) -> TypeGuard[float]:
    """Whether it is a finite number; True and False are none, nor are whole numbers that no float can hold."""
    if isinstance(value, int):
        return not isinstance(value, bool) and -LARGEST <= value <= LARGEST
    return isinstance(value, float) and math.isfinite(value)


def in_field(field: str, read: Callable[..., T], *arguments: Any) -> T:
    """`read(*arguments)`, whose errors are about something inside `field`."""
    try:
        return read(*arguments)
    except MllmError as error:
        raise error.inside(field) from error.__cause__


def check(value: object, kind: object, error: type[MllmError] = ConfigError) -> None:
    """Check a value against a type annotation.

    Lists and tuples are both lists; a whole number is a number, True and False are none; a dataclass is met by a dict
    of its fields. Numbers are finite. Types that say nothing of plain data (type variables, protocols that are not for
    run time, callables) accept anything.

    Raises:
        error: names the field inside the value, what was expected and what was found.
    """
    origin, members = get_origin(kind), get_args(kind)
    if origin is Annotated:
        try:
            check(value, members[0], error)
        except error as broken:
            broken.expected = broken.expected if broken.field else describe(kind)
            raise
        for rule in members[1:]:
            if hasattr(rule, "check") and not rule.check(value, error):
                raise error(expected=describe(kind), found=show(value), kind="wrong-type")
    elif origin in (Union, UnionType):
        _check_union(value, members, error)
    elif origin is Literal:
        if not any(type(value) is type(member) and value == member for member in members):
            raise error(_near(value, members), expected=describe(kind), found=show(value), kind="wrong-type")
    elif _is_enum(kind):
        if not isinstance(value, kind):
            check(value, Annotated[object, _members_of(kind)], error)
    elif is_dataclass(kind) and isinstance(value, Mapping):
        check_arguments(cast("Mapping[str, Any]", value), cast("Callable[..., Any]", kind), error)
    elif not _is_a(value, origin or kind):
        bad = "not-finite" if kind is float and isinstance(value, float) else "wrong-type"
        bound = " of at most 64 bits" if kind is int and type(value) is int else ""
        raise error(expected=describe(kind) + bound, found=show(value), kind=bad)
    elif isinstance(value, (list, tuple)) and members:
        _check_entries(cast("Sequence[object]", value), kind, error)
    elif isinstance(value, Mapping) and members:
        for name, entry in cast("Mapping[object, object]", value).items():
            in_field("keys", check, name, members[0], error)
            in_field(str(name), check, entry, members[1], error)


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
    known = parameters_of(built)
    check_names(given, [name for name in known if name not in also], error)
    for name, parameter in known.items():
        if name in given:
            in_field(name, check, given[name], parameter.annotation, error)
        elif parameter.default is Parameter.empty and name not in also:
            raise error(field=name, expected=describe(parameter.annotation), found="nothing", kind="missing-field")


def check_names(section: Mapping[Any, object], known: Iterable[str], error: type[MllmError] = ConfigError) -> None:
    """Raises `error` for a key that is not among those known; says which is near."""
    names = list(known)
    for name in section:
        if name not in names:
            raise error(f"unknown name; {nearest(str(name), names)}", field=str(name), kind="unknown-field")


def read_section(section: Mapping[str, Any], kind: type[T], error: type[MllmError] = ConfigError) -> T:
    """The dataclass of a dict, which is checked; a list becomes a tuple where the field is one."""
    check_arguments(section, kind, error)
    known = parameters_of(kind)
    given = {
        name: tuple(value) if _takes_tuple(value, known[name].annotation) else value for name, value in section.items()
    }
    return kind(**given)


def describe(kind: object, *, several: bool = False) -> str:
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
    if _is_enum(base):
        return _members_of(base).describe("")
    if is_dataclass(base):
        base = Mapping
    name = TYPE_NAMES[base][several] if base in TYPE_NAMES else getattr(base, "__name__", str(base))
    if base is tuple and members and members[-1] is not Ellipsis:
        return f"{'lists' if several else 'a list'} of {len(members)} {describe(members[0], several=True)}"
    if base in (list, tuple, Sequence) and members and members[0] not in (Any, object):
        one, many = (describe(members[0], several=plural) for plural in (False, True))
        return f"{name} of {many}" if one != many else f"{name}, each {one}"
    return name


def _is_enum(kind: Any) -> TypeGuard[type[Enum]]:
    return isinstance(kind, type) and issubclass(kind, Enum)


def _members_of(kind: type[Enum]) -> OneOf:
    return OneOf(tuple(cast("object", member.value) for member in kind))


def _either(members: Sequence[object], *, several: bool = False) -> str:
    # what only code can give, not a config or a record, is left out
    plain = [
        one for one in members if not isinstance(one, type) or one in TYPE_NAMES or is_dataclass(one) or _is_enum(one)
    ]
    names = [describe(member, several=several) for member in plain or members]
    return " or ".join(dict.fromkeys(sorted(names, key=lambda name: name == "None")))


def _check_union(value: object, members: Sequence[object], error: type[MllmError]) -> None:
    broken: list[MllmError] = []
    for member in members:
        try:
            return check(value, member, error)
        except error as found:
            broken.append(found)
    alike = [found for member, found in zip(members, broken, strict=True) if _is_a(value, _bare(member))]
    if len(alike) == 1 and alike[0].field:  # it is of that kind, and something in it is wrong
        raise alike[0]
    hint = next((found.message for found in broken if found.message), "")
    raise error(hint, expected=_either(members), found=show(value), kind="wrong-type")


def _check_entries(values: Sequence[object], kind: object, error: type[MllmError]) -> None:
    members = get_args(kind)
    if get_origin(kind) is tuple and members[-1] is not Ellipsis:
        if len(values) != len(members):
            raise error(expected=describe(kind), found=show(values), kind="wrong-type")
    else:
        members = (members[0],) * len(values)
    for number, (value, member) in enumerate(zip(values, members, strict=True)):
        in_field(f"[{number}]" if issubclass(error, DataError) else str(number), check, value, member, error)


def _bare(kind: object) -> Any:
    """The type of an annotation, without what is inside and what bounds it."""
    if get_origin(kind) is Annotated:
        return _bare(get_args(kind)[0])
    if get_origin(kind) in (Union, UnionType):
        return get_args(kind)
    if get_origin(kind) is Literal:
        return tuple({type(member): None for member in cast("tuple[object, ...]", get_args(kind))})
    return Mapping if is_dataclass(kind) else get_origin(kind) or kind


def _is_a(value: object, kind: Any) -> bool:
    if isinstance(kind, tuple):
        return any(_is_a(value, _bare(member)) for member in cast("tuple[Any, ...]", kind))
    if kind is None or kind is NoneType:
        return value is None
    if kind is Any or kind is object or isinstance(kind, TypeVar):
        return True
    if kind is float:
        return is_finite(value)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool) and abs(value) < LARGEST_INT
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


def _takes_tuple(value: object, kind: object) -> bool:
    members = get_args(kind) if get_origin(kind) in (Union, UnionType, Annotated) else (kind,)
    return isinstance(value, list) and any(get_origin(member) is tuple or member is tuple for member in members)
