"""Where a config holds values, and what no such place can hold."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping
from typing import Any, cast

Place = tuple[str | int, ...]

DEEP = {"x": {"y": math.nan}}
NESTED = [[None]]
HUGE = 10**400
TEXT = "no\x1b[31m such\nthing"


def places(value: Any, place: Place = ()) -> Iterator[tuple[Place, Any]]:
    """Every value of a config with the keys that lead to it, and the dicts and lists that hold values."""
    if place:
        yield place, value
    if isinstance(value, Mapping):
        for key, inner in cast("Mapping[str, Any]", value).items():
            yield from places(inner, (*place, key))
    elif isinstance(value, (list, tuple)):
        for number, inner in enumerate(cast("list[Any]", value)):
            if isinstance(inner, Mapping):
                yield from places(inner, (*place, number))


def wrong(value: Any) -> Iterator[Any]:
    """Values of which none can stand where this one does."""
    yield DEEP
    if isinstance(value, bool):
        yield from ("maybe", 7, NESTED, math.nan)
    elif isinstance(value, int):
        yield from (TEXT, NESTED, math.nan, math.inf, 1.5, -7, HUGE, "")
    elif isinstance(value, float):
        yield from (TEXT, NESTED, math.nan, math.inf, HUGE, "")
    elif isinstance(value, str):
        yield from (7, NESTED, math.nan, TEXT, "", True)
        if value.isidentifier() and len(value) > 3:
            yield value[:-1]
    elif isinstance(value, (list, tuple)):
        yield from (7, NESTED, math.nan, TEXT)
    elif isinstance(value, Mapping):
        yield from (7, NESTED, math.nan, TEXT, {**value, "no_such_key": 1})
    else:
        yield NESTED


def put(config: Mapping[str, Any], place: Place, value: Any) -> dict[str, Any]:
    """The config with the value at this place."""
    changed: Any = copy.deepcopy(dict(config))
    holder = changed
    for key in place[:-1]:
        holder[key] = copy.copy(holder[key]) if not isinstance(holder[key], tuple) else list(holder[key])
        holder = holder[key]
    holder[place[-1]] = value
    return changed


def dotted(place: Place) -> str:
    """The place as messages and `--cfg-options` write it, the numbers of lists left out."""
    return ".".join(map(str, place))
