"""`<box>(123,456),(789,901)</box>`: corners in parentheses between tokens."""

from __future__ import annotations

from collections.abc import Sequence

from mllm.conversation.codec_bare import BareNumbers
from mllm.conversation.codec_base import Frame, ImageNames, Reading, UnitBox, UnitPoint
from mllm.conversation.codec_text import ROUNDING, Marks, numbers, to_steps
from mllm.registry import CODECS

PHRASE = ("<ref>", "</ref>")
GROUPS = Marks("<box>", "</box>", joint="", label=PHRASE)
STEPS = 999


@CODECS.register_module("qwen_vl")
class QwenVL:
    """Whole numbers from 0 to 999 over the original image; a point is `<box>(x,y)</box>`; several follow each other.

    The paper's range is [0, 1000); the official scorer divides by 999, and so does this codec: 1000 is out of range.
    `<ref>phrase</ref>` may stand before.
    Source: Bai et al. 2023 (arXiv 2308.12966), section 3; github.com/QwenLM/Qwen-VL, eval_mm/evaluate_grounding.py.
    """

    frame: Frame = "image"
    tokens: tuple[str, ...] = ("<ref>", "</ref>", "<box>", "</box>")
    bare = BareNumbers(scale=STEPS)
    image_names = ImageNames(number="Picture {}: ")
    phrase = PHRASE

    def error(self, size: tuple[int, int]) -> float:
        return 0.5 / STEPS + ROUNDING

    def write_boxes(self, boxes: Sequence[UnitBox], size: tuple[int, int]) -> str:
        return self._write(boxes)

    def write_points(self, points: Sequence[UnitPoint], size: tuple[int, int]) -> str:
        return self._write(points)

    def read(self, text: str, size: tuple[int, int]) -> list[Reading]:
        return [found.read(map(corner_numbers, found.parts), scale=(STEPS, STEPS)) for found in GROUPS.find(text)]

    def _write(self, rows: Sequence[Sequence[float]]) -> str:
        return "".join(f"<box>{corners(to_steps(row, STEPS))}</box>" for row in rows)


def corners(row: Sequence[int]) -> str:
    """`(x1,y1),(x2,y2)`, or `(x,y)` of a point."""
    return ",".join(f"({x},{y})" for x, y in zip(row[::2], row[1::2], strict=True))


def corner_numbers(text: str) -> list[float] | None:
    """The numbers of `(x1,y1),(x2,y2)`; None where anything else stands there."""
    return numbers(text.replace("(", " ").replace(")", " "))
