"""`{<12><34><56><78>}`: hundredths in angle brackets."""

from __future__ import annotations

import re
from collections.abc import Sequence

from mllm.conversation.codec_base import Frame, Reading, UnitBox, UnitPoint, no_form
from mllm.conversation.codec_text import (
    FLAGS,
    ROUNDING,
    Marks,
    add_unmarked_rows,
    read_rows,
    rows_of_four,
    to_steps,
    token_numbers,
)
from mllm.registry import CODECS

PHRASE = ("<p>", "</p>")
GROUPS = Marks(r"\{(?=\s*<\s*[+-]?\d)", r"\}", joint="<delim>", label=PHRASE)
NUMBER = re.compile(r"<\s*([+-]?\d+)\s*>", FLAGS)
STEPS = 100


@CODECS.register_module("minigpt_v2")
class MiniGPTv2:
    """Hundredths of the original image, xyxy; `<delim>` between boxes, `<p>phrase</p>` may stand before; no points.

    The marks are plain text to the tokenizer. The original cuts decimals off, this codec rounds: half the error, and
    read back the same. Numbers without braces are read too.
    Source: github.com/Vision-CAIR/MiniGPT-4, eval_scripts/eval_ref.py and minigpt4/datasets (RefCOCO); Chen et al. 2023
    (arXiv 2310.09478).
    """

    frame: Frame = "image"
    tokens: tuple[str, ...] = ()
    phrase = PHRASE

    def error(self, size: tuple[int, int]) -> float:
        return 0.5 / STEPS + ROUNDING

    def write_boxes(self, boxes: Sequence[UnitBox], size: tuple[int, int]) -> str:
        return "<delim>".join("{" + "".join(f"<{number}>" for number in to_steps(box, STEPS)) + "}" for box in boxes)

    def write_points(self, points: Sequence[UnitPoint], size: tuple[int, int]) -> str:
        raise no_form("minigpt_v2", "points")

    def read(self, text: str, size: tuple[int, int]) -> list[Reading]:
        marked = [
            found.read([token_numbers(part, NUMBER) for part in found.parts], scale=(STEPS, STEPS), points=False)
            for found in GROUPS.find(text)
        ]
        return add_unmarked_rows(text, marked, NUMBER, _bare)


def _bare(row: list[float]) -> Reading:
    return read_rows(rows_of_four(row), scale=(STEPS, STEPS), points=False)
