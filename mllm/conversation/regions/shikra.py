"""`[0.123,0.456,0.789,0.901]`: plain decimals in brackets, several regions of a group separated by `;`."""

from __future__ import annotations

import re
from collections.abc import Sequence

from mllm.conversation.region import Frame, Reading, UnitBox, UnitPoint, reading
from mllm.registry import REGIONS

GROUP = re.compile(r"\[([^\[\]]*\d[^\[\]]*)(\]|$|(?=\[))")
NUMBER = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)\s*")


@REGIONS.register_module("shikra")
class Shikra:
    """Fractions of the padded square with `digits` decimals, xyxy; a point is `[x,y]`.

    Source: Chen et al. 2023 (arXiv 2306.15195), section 4.
    """

    frame: Frame = "canvas"
    tokens: tuple[str, ...] = ()

    def __init__(self, *, digits: int = 3) -> None:
        self.digits = digits
        self.error = 0.5 * 10**-digits + 1e-9

    def write_boxes(self, boxes: Sequence[UnitBox], size: tuple[int, int]) -> str:
        return self._write(boxes)

    def write_points(self, points: Sequence[UnitPoint], size: tuple[int, int]) -> str:
        return self._write(points)

    def read(self, text: str, size: tuple[int, int]) -> list[Reading]:
        return [self._group(match[1], closed=match[2] == "]") for match in GROUP.finditer(text)]

    def _write(self, rows: Sequence[Sequence[float]]) -> str:
        return "[" + ";".join(",".join(f"{value:.{self.digits}f}" for value in row) for row in rows) + "]"

    def _group(self, inside: str, *, closed: bool) -> Reading:
        rows = [row.split(",") for row in inside.split(";")]
        if not closed or not all(NUMBER.fullmatch(value) for row in rows for value in row):
            return Reading(failure="malformed")
        return reading([[float(value) for value in row] for row in rows])
