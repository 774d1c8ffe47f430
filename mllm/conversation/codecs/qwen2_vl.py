"""`<|box_start|>(123,456),(789,901)<|box_end|>`: Qwen-VL's corners between Qwen2's tokens."""

from __future__ import annotations

from collections.abc import Sequence

from mllm.conversation.codec_bare import BareNumbers
from mllm.conversation.codec_base import Frame, ImageNames, Reading, UnitBox, UnitPoint
from mllm.conversation.codec_text import ROUNDING, Marks, to_steps
from mllm.conversation.codecs.qwen_vl import corner_numbers, corners
from mllm.registry import CODECS

PHRASE = ("<|object_ref_start|>", "<|object_ref_end|>")
GROUPS = Marks(r"<\|box_start\|>", r"<\|box_end\|>", joint="", label=PHRASE)
STEPS = 1000


@CODECS.register_module("qwen2_vl")
class Qwen2VL:
    """Thousandths of the original image; a point is `(x,y)` in the same marks; several follow each other.

    `<|object_ref_start|>phrase<|object_ref_end|>` may stand before.
    Source: Wang et al. 2024 (arXiv 2409.12191), section 2; `convert_to_qwen2vl_format` of github.com/QwenLM/Qwen3-VL,
    qwen-vl-finetune/tools/process_bbox.ipynb, which rounds and reaches 1000.
    """

    frame: Frame = "image"
    tokens: tuple[str, ...] = ("<|object_ref_start|>", "<|object_ref_end|>", "<|box_start|>", "<|box_end|>")
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
        return "".join(f"<|box_start|>{corners(to_steps(row, STEPS))}<|box_end|>" for row in rows)
