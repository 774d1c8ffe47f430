"""Boxes and points that a model wrote as bare numbers, without the marks of its family."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from mllm.answers import short_answer
from mllm.conversation.codec_base import Reading
from mllm.conversation.codec_text import NUMBER, numbers, read_rows

_N = NUMBER.pattern
_ROW = rf"{_N}(?:,{_N}){{3}}"
_BOXES = re.compile(
    rf"[\[(](?P<rows>{_ROW}(?:;{_ROW})*)[\])]"  # [12, 34, 56, 78], also in a list of lists; (12, 34, 56, 78)
    rf"|\((?P<first>{_N},{_N})\)\s*,?\s*\((?P<last>{_N},{_N})\)"  # (12, 34), (56, 78)
    rf"|\[(?P<start>{_N},{_N})\]\s*,\s*\[(?P<end>{_N},{_N})\]"  # [12, 34], [56, 78], also in a list
)
_POINTS = re.compile(rf"[\[(]({_N},{_N}(?:;{_N},{_N})*)[\])]")
_ALONE = re.compile(_ROW)


@dataclass(frozen=True, slots=True, kw_only=True)
class BareNumbers:
    """Numbers in brackets or parentheses, and four numbers that are the whole answer.

    Boxes are read first, points only where a text has no box. Each pair of brackets is a group. What may mean several
    things is not read: corners in parentheses where y stands first, two pairs in brackets where points are written.

    Attributes:
        scale: the number that stands for the whole side; None: numbers are pixels of the frame.
        y_first: y stands before x.
        boxes, points: whether the family writes any.
    """

    scale: float | None = 1.0
    y_first: bool = False
    boxes: bool = True
    points: bool = True

    def read(self, text: str, size: tuple[int, int]) -> list[Reading]:
        """Every group in the text, in order; `size` is the frame's, in pixels."""
        scale = size if self.scale is None else (self.scale, self.scale)
        found = list(self._boxes(text)) if self.boxes else []
        if not found and self.points:
            found = [(match[1], match.span()) for match in _POINTS.finditer(text)]
        return [
            replace(
                read_rows(map(numbers, rows.split(";")), scale=scale, y_first=self.y_first, decimals=not self.boxes),
                span=span,
            )
            for rows, span in found
        ]

    def _boxes(self, text: str) -> Iterator[tuple[str, tuple[int, int]]]:
        """The numbers of each pair of brackets, `x1,y1,x2,y2;...`, and where it stands."""
        matches = [match for match in _BOXES.finditer(text) if self._is_clear(match)]
        for match in matches:
            yield ",".join(part for part in match.groups() if part is not None), match.span()
        alone = short_answer(text)
        if not matches and _ALONE.fullmatch(alone):
            start = max(0, text.find(alone))
            yield alone, (start, start + len(alone))

    def _is_clear(self, match: re.Match[str]) -> bool:
        if match["rows"] is not None:
            return True
        return not self.y_first if match["first"] is not None else not self.points
