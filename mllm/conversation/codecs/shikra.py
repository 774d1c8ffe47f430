"""`[0.123,0.456,0.789,0.901]`: plain decimals in brackets, several regions of a group separated by `;`."""

from __future__ import annotations

from collections.abc import Sequence

from mllm.conversation.codec_bare import BareNumbers
from mllm.conversation.codec_base import Frame, Reading, UnitBox, UnitPoint
from mllm.conversation.codec_text import BRACKET, ROUNDING, Digits, Marks, numbers
from mllm.registry import CODECS

LISTS = Marks(BRACKET, r"\]")


@CODECS.register_module("shikra")
class Shikra:
    """Fractions of the padded square with `digits` decimals, xyxy; a point is `[x,y]`.

    Source: Chen et al. 2023 (arXiv 2306.15195), section 4.
    """

    frame: Frame = "canvas"
    tokens: tuple[str, ...] = ()
    bare = BareNumbers()

    def __init__(self, *, digits: Digits = 3) -> None:
        self.digits = digits

    def error(self, size: tuple[int, int]) -> float:
        return 0.5 * 10**-self.digits + ROUNDING

    def write_boxes(self, boxes: Sequence[UnitBox], size: tuple[int, int]) -> str:
        return self._write(boxes)

    def write_points(self, points: Sequence[UnitPoint], size: tuple[int, int]) -> str:
        return self._write(points)

    def read(self, text: str, size: tuple[int, int]) -> list[Reading]:
        return [found.read(map(numbers, found.parts[0].split(";"))) for found in LISTS.find(text)]

    def _write(self, rows: Sequence[Sequence[float]]) -> str:
        return "[" + ";".join(",".join(f"{value:.{self.digits}f}" for value in row) for row in rows) + "]"
