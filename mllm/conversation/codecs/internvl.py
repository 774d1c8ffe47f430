"""`<box>[[123, 456, 789, 901]]</box>`: a list of lists between tokens."""

from __future__ import annotations

from collections.abc import Sequence

from mllm.conversation.codec_bare import BareNumbers
from mllm.conversation.codec_base import Frame, ImageNames, Reading, UnitBox, UnitPoint, no_form
from mllm.conversation.codec_text import ROUNDING, Marks, rows_in_lists, to_steps
from mllm.registry import CODECS

PHRASE = ("<ref>", "</ref>")
GROUPS = Marks("<box>", "</box>", label=PHRASE)
STEPS = 1000


@CODECS.register_module("internvl")
class InternVL:
    """Thousandths of the original image, xyxy, several boxes in one list; no points.

    `<ref>phrase</ref>` may stand before. The original cuts decimals off, this codec rounds: half the error, and read
    back the same.
    Source: internvl.readthedocs.io, "Chat Data Format" (grounding / detection data); github.com/OpenGVLab/InternVL,
    issue 285 and internvl_chat/eval/refcoco/evaluate_grounding.py.
    """

    frame: Frame = "image"
    tokens: tuple[str, ...] = ("<ref>", "</ref>", "<box>", "</box>")
    bare = BareNumbers(scale=STEPS, points=False)
    image_names = ImageNames(number="Image-{}: ")
    phrase = PHRASE

    def error(self, size: tuple[int, int]) -> float:
        return 0.5 / STEPS + ROUNDING

    def write_boxes(self, boxes: Sequence[UnitBox], size: tuple[int, int]) -> str:
        return f"<box>{[to_steps(box, STEPS) for box in boxes]}</box>"

    def write_points(self, points: Sequence[UnitPoint], size: tuple[int, int]) -> str:
        raise no_form("internvl", "points")

    def read(self, text: str, size: tuple[int, int]) -> list[Reading]:
        return [
            found.read(rows_in_lists(found.parts[0]), scale=(STEPS, STEPS), points=False) for found in GROUPS.find(text)
        ]
