"""`<|begin_of_box|>[[123, 456, 789, 901]]<|end_of_box|>`: a list of lists between tokens."""

from __future__ import annotations

from collections.abc import Sequence

from mllm.conversation.codec_bare import BareNumbers
from mllm.conversation.codec_base import Frame, Reading, UnitBox, UnitPoint, no_form
from mllm.conversation.codec_text import ROUNDING, Marks, rows_in_lists, to_steps
from mllm.registry import CODECS

OPEN, CLOSE = "<|begin_of_box|>", "<|end_of_box|>"
GROUPS = Marks(r"<\|begin_of_box\|>", r"<\|end_of_box\|>")
BRACKETS = str.maketrans("(){}<>", "[][][]")
"""The models use other brackets too."""
STEPS = 1000


@CODECS.register_module("glm")
class GLM:
    """Thousandths of the original image, xyxy, several boxes in one list; no points. Read with brackets of any kind.

    Source: github.com/zai-org/GLM-V, README, "Grounding" (GLM-4.1V, GLM-4.5V, GLM-4.6V).
    """

    frame: Frame = "image"
    tokens: tuple[str, ...] = (OPEN, CLOSE)
    bare = BareNumbers(scale=STEPS, points=False)

    def error(self, size: tuple[int, int]) -> float:
        return 0.5 / STEPS + ROUNDING

    def write_boxes(self, boxes: Sequence[UnitBox], size: tuple[int, int]) -> str:
        return f"{OPEN}{[to_steps(box, STEPS) for box in boxes]}{CLOSE}"

    def write_points(self, points: Sequence[UnitPoint], size: tuple[int, int]) -> str:
        raise no_form("glm", "points")

    def read(self, text: str, size: tuple[int, int]) -> list[Reading]:
        return [
            found.read(rows_in_lists(found.parts[0].translate(BRACKETS)), scale=(STEPS, STEPS), points=False)
            for found in GROUPS.find(text)
        ]
