"""`{"bbox_2d": [123, 456, 789, 901]}`: JSON, in pixels of the image as the model sees it."""

from __future__ import annotations

from collections.abc import Sequence

from mllm.conversation.codec_bare import BareNumbers
from mllm.conversation.codec_base import Frame, ImageNames, Reading, UnitBox, UnitPoint
from mllm.conversation.codec_json import JsonForm
from mllm.conversation.codec_text import ROUNDING
from mllm.registry import CODECS

FORM = JsonForm(box="bbox_2d", point="point_2d")


@CODECS.register_module("qwen25_vl")
class Qwen25VL:
    """Whole pixels of the resized image, xyxy; a point is `{"point_2d": [x, y]}`; several stand in an array.

    Rounded to the nearest pixel, and to the last one (`width - 1`) at the right and the lower border: a bound of one
    pixel there and of half a pixel elsewhere. Read with or without `"label"`, code fence or keys.
    Source: Bai et al. 2025 (arXiv 2502.13923), section 2; `convert_to_qwen25vl_format` of github.com/QwenLM/Qwen3-VL,
    qwen-vl-finetune/tools/process_bbox.ipynb, and cookbooks/spatial_understanding.ipynb.
    """

    frame: Frame = "canvas"
    tokens: tuple[str, ...] = ()
    none = "[]"
    bare = BareNumbers(scale=None)
    image_names = ImageNames(number="Picture {}: ")

    def error(self, size: tuple[int, int]) -> float:
        return 1 / min(size) + ROUNDING

    def write_boxes(self, boxes: Sequence[UnitBox], size: tuple[int, int]) -> str:
        return FORM.write(FORM.box, [_pixels(box, size) for box in boxes])

    def write_points(self, points: Sequence[UnitPoint], size: tuple[int, int]) -> str:
        return FORM.write(FORM.point, [_pixels(point, size) for point in points])

    def read(self, text: str, size: tuple[int, int]) -> list[Reading]:
        return FORM.read(text, scale=size)


def _pixels(row: Sequence[float], size: tuple[int, int]) -> list[int]:
    return [min(round(value * size[place % 2]), size[place % 2] - 1) for place, value in enumerate(row)]
