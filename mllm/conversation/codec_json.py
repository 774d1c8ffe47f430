"""Regions as JSON objects in free text: alone, in an array, or in a code fence."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mllm.conversation.codec_base import Reading
from mllm.conversation.codec_text import FLAGS, Found, numbers

_STRING = r'"(?:[^"\\]|\\.)*(?:"|\Z)'
_OBJECT = re.compile(rf'\{{(?:[^{{}}"]|{_STRING})*(\}}|\Z)', FLAGS)
_LABEL = re.compile(r'"label"\s*:\s*("(?:[^"\\]|\\.)*")', FLAGS)
_BEFORE = re.compile(r"(?:```(?:json)?\s*)?(\[)?\s*\Z", FLAGS)
_AFTER = re.compile(r"\s*\](?:\s*```)?", FLAGS)
_FENCE = re.compile(r"\s*```", FLAGS)


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

    def _groups(self, text: str) -> Iterator[tuple[list[re.Match[str]], tuple[int, int]]]:
        """Objects that hold a region, those of one array together, and where they stand."""
        key = re.compile(rf'["\'](?:{self.box}|{self.point})["\']\s*:', FLAGS)
        empty = re.compile(rf'["\'](?:{self.box}|{self.point})["\']\s*:\s*(?:null|none|\[\s*\])', FLAGS)
        # an object that says that there is no region holds none
        matches = [match for match in _OBJECT.finditer(text) if key.search(match[0]) and not empty.search(match[0])]
        while matches:
            group = [matches.pop(0)]
            before = _BEFORE.search(text[: group[0].start()])
            assert before is not None, "the pattern matches the empty text"
            listed = before[1] is not None
            while listed and matches and text[group[-1].end() : matches[0].start()].strip() == ",":
                group.append(matches.pop(0))
            end = group[-1].end()
            fenced = "`" in before[0]
            closing = _AFTER.match(text, end) if listed else (_FENCE.match(text, end) if fenced else None)
            start = before.start() if listed or fenced else group[0].start()
            yield group, (start, closing.end() if closing else end)

    def _group(self, objects: list[re.Match[str]], span: tuple[int, int], scale: tuple[float, float]) -> Reading:
        value = re.compile(rf'["\'](?:({self.box})|{self.point})["\']\s*:\s*\[([^\[\]{{}}]*)\]', FLAGS)
        rows: list[list[float] | None] = []
        labels: list[str] = []
        for match in objects:
            label = _LABEL.search(match[0])
            if label:
                labels.append(_unescaped(label[1]).strip())
            region = value.search(match[0])
            row = numbers(region[2]) if region and match[1] else None
            if row is not None and region and len(row) != (4 if region[1] else 2):
                row = []  # a box of two numbers is no point
            rows.append(row)
        group = Found(parts=(), closed=True, label=", ".join(dict.fromkeys(filter(None, labels))) or None, span=span)
        return group.read(rows, scale=scale, y_first=self.y_first)


def _unescaped(quoted: str) -> str:
    try:
        return str(json.loads(quoted, strict=False))
    except json.JSONDecodeError:
        return quoted[1:-1]  # a model's own idea of an escape
