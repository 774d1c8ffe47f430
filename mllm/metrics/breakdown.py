"""Scores of parts of a dataset: by what its records say of themselves (`group`), by file, by the size of the box, by
the length of the expression.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from mllm.fields import check, in_field
from mllm.metrics.base import BOX_SIZE, WORDS, Metric
from mllm.metrics.statistics import Interval, interval
from mllm.types import Box, Prediction

SMALL, LARGE = 32**2, 96**2
"""Areas between small, medium and large boxes in square pixels: COCO's."""
LENGTHS = ((1, 2), (3, 5), (6, 10), (11, 20))
"""Least and most words of an expression that is counted together with others."""
MAX_VALUES = 200
"""Values of a name beyond which it tells items apart rather than kinds of items."""
ABSENT = "(none)"
"""The value of items that do not have the name."""
_NUMBERED = re.compile(r"^(.*):\d+$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """The score of the items with one value of a name."""

    value: str
    count: int
    score: float
    interval: Interval | None


def breakdown(metric: Metric, predictions: Sequence[Prediction], images: Sequence[str]) -> dict[str, list[Part]]:
    """For each name the headline of the items with each of its values, in the order of the values.

    Names with one value, or more than `MAX_VALUES`, are left out. Where the metric breaks its scores down by a name
    itself, the parts are its own, see `Metric`. `images` names the image of each prediction.
    """
    places = {name: places_of(values) for name, values in kinds_of(predictions).items()} | _own(metric, predictions)
    parts = {
        name: _parts(metric, predictions, images, found)
        for name, found in places.items()
        if 1 < len(found) <= MAX_VALUES
    }
    return {name: found for name, found in parts.items() if found}


def _own(metric: Metric, predictions: Sequence[Prediction]) -> dict[str, dict[str, list[int]]]:
    """For each name by which a metric breaks its scores down itself, where each value stands."""
    parts_of: Callable[[Prediction], Mapping[str, Sequence[str]]] | None = getattr(metric, "parts_of", None)
    found: dict[str, dict[str, list[int]]] = {}
    if parts_of is None:
        return found
    for place, prediction in enumerate(predictions):
        given = parts_of(prediction)
        if place == 0:  # a metric of one's own may return something else
            in_field(f"{type(metric).__name__}.parts_of", check, given, Mapping[str, Sequence[str]])
        for name, values in given.items():
            for value in values:
                found.setdefault(name, {}).setdefault(value, []).append(place)
    return found


def kinds_of(predictions: Sequence[Prediction]) -> dict[str, list[str]]:
    """For each name that tells kinds of items apart the value of each item."""
    names = dict.fromkeys(name for prediction in predictions for name in prediction.group)
    values = {name: [str(prediction.group.get(name, ABSENT)) for prediction in predictions] for name in names}
    values = {
        "file": [file_of(prediction) for prediction in predictions],
        **_sizes(predictions),
        **_lengths(predictions),
        **values,
    }
    return {name: found for name, found in values.items() if 1 < len(set(found)) <= MAX_VALUES}


def places_of(values: Iterable[str]) -> dict[str, list[int]]:
    """Where each value stands."""
    places: dict[str, list[int]] = {}
    for place, value in enumerate(values):
        places.setdefault(value, []).append(place)
    return places


def _parts(
    metric: Metric, predictions: Sequence[Prediction], images: Sequence[str], places: Mapping[str, Sequence[int]]
) -> list[Part]:
    parts: list[Part] = []
    for value in sorted(places, key=_naturally):
        some = [predictions[place] for place in places[value]]
        bounds = interval(metric, some, [images[place] for place in places[value]])
        score = metric(some).get(metric.headline)
        if score is not None:  # None: these items have nothing that the headline is of
            parts.append(Part(value=value, count=len(some), score=score, interval=bounds))
    return parts


def _sizes(predictions: Sequence[Prediction]) -> Mapping[str, list[str]]:
    """The size of each true box; nothing unless every item that has a target has one box."""
    if any(len(prediction.truth.boxes) != 1 and not prediction.truth.no_target for prediction in predictions):
        return {}
    return {BOX_SIZE: [_size(prediction.truth.boxes) for prediction in predictions]}


def _size(boxes: Sequence[Box]) -> str:
    if not boxes:
        return ABSENT
    x1, y1, x2, y2 = boxes[0].xyxy
    area = (x2 - x1) * (y2 - y1)
    return "small (< 32²)" if area < SMALL else "large (> 96²)" if area > LARGE else "medium"


def _lengths(predictions: Sequence[Prediction]) -> Mapping[str, list[str]]:
    """How many words each expression has; nothing unless every item has one."""
    expressions = [prediction.expression for prediction in predictions]
    if not all(expressions):
        return {}
    return {WORDS: [_length(len((expression or "").split())) for expression in expressions]}


def _length(words: int) -> str:
    return next((f"{least} to {most}" for least, most in LENGTHS if words <= most), f"more than {LENGTHS[-1][1]}")


def file_of(prediction: Prediction) -> str:
    """The file that a key names, as in `testA.jsonl:12`."""
    numbered = _NUMBERED.match(prediction.key)
    return numbered[1].rsplit("/", 1)[-1] if numbered else ABSENT


def _naturally(value: str) -> list[tuple[bool, int, str]]:
    """A sort key by which 2 comes before 10."""
    return [(not part.isdecimal(), int(part) if part.isdecimal() else 0, part) for part in re.split(r"(\d+)", value)]
