"""Regions as JSON objects in free text: alone, in an array, or in a code fence."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from mllm.conversation.codec_base import Reading, join_readings
from mllm.conversation.codec_text import FLAGS, numbers, read_rows

_STRING = r'"(?:[^"\\]|\\.)*(?:"|\Z)'
_OPENING = re.compile(r"\{")
_INSIDE = re.compile(rf"[{{}}]|{_STRING}", FLAGS)
_LABEL = re.compile(r'"label"\s*:\s*("(?:[^"\\]|\\.)*")', FLAGS)
_BEFORE = re.compile(r"(?:```(?:json)?\s*)?(\[)?\s*\Z", FLAGS)
_AFTER = re.compile(r"\s*\](?:\s*```)?", FLAGS)
_FENCE = re.compile(r"\s*```", FLAGS)
NEAR = 80
"""Characters before an object among which the bracket and the fence of its array are looked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JsonForm:
    """`{"bbox_2d": [x1, y1, x2, y2], "label": "..."}`; several regions of a group are an array of such objects.

    `box` and `point` are the keys. A group's label is what its objects are called, each name once.
    """

    box: str
    point: str
    y_first: bool = False

    def write(self, key: str, rows: Sequence[Sequence[int]]) -> str:
        objects = [{key: list(row)} for row in rows]
        return json.dumps(objects[0] if len(objects) == 1 else objects)

    def read(self, text: str, scale: tuple[float, float]) -> list[Reading]:
        """Every group in order; `scale` is the 1.0 of x and of y."""
        return [self._group(objects, span, scale) for objects, span in self._groups(text)]

    def _groups(self, text: str) -> Iterator[tuple[list[_Object], tuple[int, int]]]:
        """Objects that hold a region, those of one array together, and where they stand."""
        regions = iter(self._regions(text))
        following = next(regions, None)
        while following is not None:
            group = following
            following = next(regions, None)
            start, end = group[0].start, group[0].end
            before = _BEFORE.search(text, max(0, start - NEAR), start)
            assert before is not None, "the pattern matches the empty text"
            listed = before[1] is not None
            while listed and following is not None and text[end : following[0].start].strip() == ",":
                group, end = group + following, following[0].end
                following = next(regions, None)
            fenced = "`" in before[0]
            closing = _AFTER.match(text, end) if listed else (_FENCE.match(text, end) if fenced else None)
            yield group, (before.start() if listed or fenced else start, closing.end() if closing else end)

    def _regions(self, text: str) -> list[list[_Object]]:
        """The objects that have a region's key of their own, in order, each with such objects inside it."""
        key = re.compile(rf'["\'](?:{self.box}|{self.point})["\']\s*:', FLAGS)
        empty = re.compile(rf'["\'](?:{self.box}|{self.point})["\']\s*:\s*(?:null|none|\[\s*\])', FLAGS)
        regions: list[list[_Object]] = []
        for found in _objects(text):
            # an object that says that there is no region holds none
            if key.search(found.text) and not empty.search(found.text):
                inside: list[_Object] = []
                while regions and regions[-1][0].start > found.start:  # an inner object ends before the outer one
                    inside = regions.pop() + inside
                regions.append([found, *inside])
        return regions

    def _group(self, objects: Sequence[_Object], span: tuple[int, int], scale: tuple[float, float]) -> Reading:
        value = re.compile(rf'["\'](?:({self.box})|{self.point})["\']\s*:\s*\[([^\[\]{{}}]*)\]', FLAGS)
        readings: list[Reading] = []
        labels: list[str | None] = []
        for found in objects:
            label = _LABEL.search(found.text)
            labels.append(_unescaped(label[1]).strip() or None if label else None)
            region = value.search(found.text)
            row = numbers(region[2]) if region and found.closed else None
            if row is not None and region and len(row) != (4 if region[1] else 2):
                row = []  # a box of two numbers is no point
            read = read_rows([row], scale=scale, y_first=self.y_first)
            readings.append(replace(read, labels=(labels[-1],)))
        label = ", ".join(dict.fromkeys(filter(None, labels))) or None
        return replace(join_readings(readings), label=label, span=span)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Object:
    """A JSON object in a text.

    Attributes:
        text: what stands in it, without the objects inside it.
        closed: whether it ends before the text does.
    """

    start: int
    end: int
    text: str
    closed: bool


def _objects(text: str) -> Iterator[_Object]:
    """Every object, in the order in which they end; braces in strings are none."""
    opened: list[tuple[int, list[str]]] = []
    done = 0
    while match := (_INSIDE if opened else _OPENING).search(text, done):
        if opened:
            opened[-1][1].append(text[done : match.end()])
        done = match.end()
        if match[0] == "{":
            opened.append((match.start(), []))
        elif match[0] == "}":
            start, pieces = opened.pop()
            yield _Object(start=start, end=done, text="".join(pieces), closed=True)
    for start, pieces in reversed(opened):
        yield _Object(start=start, end=len(text), text="".join((*pieces, text[done:])), closed=False)
        done = len(text)


def _unescaped(quoted: str) -> str:
    try:
        return str(json.loads(quoted, strict=False))
    except json.JSONDecodeError:
        return quoted[1:-1]  # a model's own idea of an escape
