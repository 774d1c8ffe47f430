"""`{"bbox_2d": [123, 456, 789, 901]}`: JSON, in thousandths."""

from __future__ import annotations

from collections.abc import Sequence

from mllm.conversation.codec_bare import BareNumbers
from mllm.conversation.codec_base import Frame, ImageNames, Reading, UnitBox, UnitPoint
from mllm.conversation.codec_json import JsonForm
from mllm.conversation.codec_text import ROUNDING, to_steps
from mllm.registry import CODECS

FORM = JsonForm(box="bbox_2d", point="point_2d")
STEPS = 1000


@CODECS.register_module("qwen3_vl")
class Qwen3VL:
    """Thousandths of the original image, xyxy; a point is `{"point_2d": [x, y]}`; several stand in an array.

    The text is Qwen2.5-VL's, the numbers mean something else: nothing in an answer tells the two apart. Read with or
    without `"label"`, code fence or keys.
    Source: github.com/QwenLM/Qwen3-VL, cookbooks/2d_grounding.ipynb, and issue 1486 there; the time before a frame of a
    video: transformers' Qwen3VLProcessor.
    """

    frame: Frame = "image"
    tokens: tuple[str, ...] = ()
    none = "[]"
    bare = BareNumbers(scale=STEPS)
    image_names = ImageNames(number="Picture {}: ", time="<{} seconds>")

    def error(self, size: tuple[int, int]) -> float:
        return 0.5 / STEPS + ROUNDING

    def write_boxes(self, boxes: Sequence[UnitBox], size: tuple[int, int]) -> str:
        return FORM.write(FORM.box, [to_steps(box, STEPS) for box in boxes])

    def write_points(self, points: Sequence[UnitPoint], size: tuple[int, int]) -> str:
        return FORM.write(FORM.point, [to_steps(point, STEPS) for point in points])

    def read(self, text: str, size: tuple[int, int]) -> list[Reading]:
        return FORM.read(text, scale=(STEPS, STEPS))
