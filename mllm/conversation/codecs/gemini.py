"""`{"box_2d": [456, 123, 901, 789]}`: JSON, in thousandths, y before x."""

from __future__ import annotations

from collections.abc import Sequence

from mllm.conversation.codec_bare import BareNumbers
from mllm.conversation.codec_base import Frame, Reading, UnitBox, UnitPoint
from mllm.conversation.codec_json import JsonForm
from mllm.conversation.codec_text import ROUNDING, swap_axes, to_steps
from mllm.registry import CODECS

FORM = JsonForm(box="box_2d", point="point", y_first=True)
STEPS = 1000


@CODECS.register_module("gemini")
class Gemini:
    """Thousandths of the original image as y1, x1, y2, x2; a point is `{"point": [y, x]}`; several stand in an array.

    Read with or without `"label"` and code fence, and as the bare list `[y1, x1, y2, x2]` of earlier versions.
    Source: ai.google.dev/gemini-api/docs, "Image understanding" (object detection) and "Robotics" (pointing).
    """

    frame: Frame = "image"
    tokens: tuple[str, ...] = ()
    none = "[]"
    bare = BareNumbers(scale=STEPS, y_first=True)

    def error(self, size: tuple[int, int]) -> float:
        return 0.5 / STEPS + ROUNDING

    def write_boxes(self, boxes: Sequence[UnitBox], size: tuple[int, int]) -> str:
        return FORM.write(FORM.box, [to_steps(swap_axes(box), STEPS) for box in boxes])

    def write_points(self, points: Sequence[UnitPoint], size: tuple[int, int]) -> str:
        return FORM.write(FORM.point, [to_steps(swap_axes(point), STEPS) for point in points])

    def read(self, text: str, size: tuple[int, int]) -> list[Reading]:
        return FORM.read(text, scale=(STEPS, STEPS))
