"""`[[012,345,678,901]]`: three digits each, in double brackets."""

from __future__ import annotations

from collections.abc import Sequence

from mllm.conversation.codec_bare import BareNumbers
from mllm.conversation.codec_base import Frame, Reading, UnitBox, UnitPoint, no_form
from mllm.conversation.codec_text import ROUNDING, Marks, numbers, to_steps
from mllm.registry import CODECS

GROUPS = Marks(r"\[\s*\[(?=[^\[\]]*\d)", r"\]\s*\]")
STEPS, TOP = 1000, 999


@CODECS.register_module("cogvlm")
class CogVLM:
    """Thousandths of the original image, xyxy, `;` between boxes of a group; no points.

    Three digits end at 999, so that the right and the lower border are read as 0.999: the bound is 0.001 there, half of
    it elsewhere.
    Source: Wang et al. 2023 (arXiv 2311.03079); github.com/THUDM/CogVLM, README and issue 25.
    """

    frame: Frame = "image"
    tokens: tuple[str, ...] = ()
    bare = BareNumbers(scale=STEPS, points=False)

    def error(self, size: tuple[int, int]) -> float:
        return 1 / STEPS + ROUNDING

    def write_boxes(self, boxes: Sequence[UnitBox], size: tuple[int, int]) -> str:
        return (
            "[[" + ";".join(",".join(f"{number:03d}" for number in to_steps(box, STEPS, TOP)) for box in boxes) + "]]"
        )

    def write_points(self, points: Sequence[UnitPoint], size: tuple[int, int]) -> str:
        raise no_form("cogvlm", "points")

    def read(self, text: str, size: tuple[int, int]) -> list[Reading]:
        return [
            found.read(map(numbers, found.parts[0].split(";")), scale=(STEPS, STEPS), points=False)
            for found in GROUPS.find(text)
        ]
