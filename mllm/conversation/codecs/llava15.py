"""`[0.12, 0.34, 0.56, 0.78]`: two decimals in brackets."""

from __future__ import annotations

from collections.abc import Sequence

from mllm.conversation.codec_bare import BareNumbers
from mllm.conversation.codec_base import Frame, Reading, UnitBox, UnitPoint, no_form
from mllm.conversation.codec_text import BRACKET, ROUNDING, Digits, Marks, numbers
from mllm.registry import CODECS

LISTS = Marks(BRACKET, r"\]", joint=",")


@CODECS.register_module("llava15")
class Llava15:
    """Fractions of the padded square with `digits` decimals, xyxy; several boxes are brackets after commas; no points.

    Source: Liu et al. 2023 (arXiv 2310.03744), table of instruction formats, and its data
    (llava_v1_5_mix665k.json); that the square is the padded one: github.com/haotian-liu/LLaVA issue 606.
    """

    frame: Frame = "canvas"
    tokens: tuple[str, ...] = ()
    bare = BareNumbers(points=False)

    def __init__(self, *, digits: Digits = 2) -> None:
        self.digits = digits

    def error(self, size: tuple[int, int]) -> float:
        return 0.5 * 10**-self.digits + ROUNDING

    def write_boxes(self, boxes: Sequence[UnitBox], size: tuple[int, int]) -> str:
        return ", ".join("[" + ", ".join(f"{value:.{self.digits}f}" for value in box) + "]" for box in boxes)

    def write_points(self, points: Sequence[UnitPoint], size: tuple[int, int]) -> str:
        raise no_form("llava15", "points")

    def read(self, text: str, size: tuple[int, int]) -> list[Reading]:
        return [found.read(map(numbers, found.parts), points=False) for found in LISTS.find(text)]
