"""`[123, 456, 789, 901]`: whole numbers up to 1000 in brackets."""

from __future__ import annotations

from collections.abc import Sequence

from mllm.conversation.codec_bare import BareNumbers
from mllm.conversation.codec_base import Frame, Reading, UnitBox, UnitPoint
from mllm.conversation.codec_text import BRACKET, ROUNDING, Marks, numbers, to_steps
from mllm.registry import CODECS

LISTS = Marks(BRACKET, r"\]", joint=",")
STEPS = 1000


@CODECS.register_module("ferret")
class Ferret:
    """Thousandths of the original image, xyxy; a point is `[x, y]`; several regions are brackets after commas.

    The original cuts decimals off, this codec rounds: half the error, and read back the same.
    Source: github.com/apple/ml-ferret, ferret/eval/eval_refexp.py (VOCAB_IMAGE_W = VOCAB_IMAGE_H = 1000).
    """

    frame: Frame = "image"
    tokens: tuple[str, ...] = ()
    bare = BareNumbers(scale=STEPS)

    def error(self, size: tuple[int, int]) -> float:
        return 0.5 / STEPS + ROUNDING

    def write_boxes(self, boxes: Sequence[UnitBox], size: tuple[int, int]) -> str:
        return self._write(boxes)

    def write_points(self, points: Sequence[UnitPoint], size: tuple[int, int]) -> str:
        return self._write(points)

    def read(self, text: str, size: tuple[int, int]) -> list[Reading]:
        return [found.read(map(numbers, found.parts), scale=(STEPS, STEPS)) for found in LISTS.find(text)]

    def _write(self, rows: Sequence[Sequence[float]]) -> str:
        return ", ".join(str(to_steps(row, STEPS)) for row in rows)
