"""`<loc0456><loc0123><loc0901><loc0789>`: tokens of the vocabulary, y before x."""

from __future__ import annotations

import re
from collections.abc import Sequence

from mllm.conversation.codec_base import Frame, Reading, UnitBox, UnitPoint, no_form
from mllm.conversation.codec_text import FLAGS, ROUNDING, MarkedGroup, labelled, swap_axes, to_steps, token_numbers
from mllm.registry import CODECS

_TOKEN = r"<loc\s*[+-]?\d[^<>]*(?:>|(?=<)|\Z)"
_BOX = rf"{_TOKEN}(?:\s*{_TOKEN})*"
GROUP = re.compile(rf"{_BOX}(?:\s*;\s*{_BOX})*", FLAGS)
LOC = re.compile(r"<loc\s*([+-]?\d+)\s*>", FLAGS)
PHRASE = re.compile(r"(?:\s*<seg\d+>)*([^;<>\n]*)", FLAGS)
BINS = 1024


@CODECS.register_module("paligemma")
class PaliGemma:
    """1024 tokens over the resized image, y1 x1 y2 x2, ` ; ` between boxes; no points.

    The phrase of a box follows it as plain text, `<loc0456><loc0123><loc0901><loc0789> cat ; ...`: such boxes are
    groups of their own. It is read as their label up to the next `;`, and stays where it is.
    Source: Beyer et al. 2024 (arXiv 2407.07726), section 3; github.com/google-research/big_vision,
    big_vision/pp/proj/paligemma/segmentation.py (round(1023 x)); transformers' PaliGemmaProcessor (the tokens).
    """

    frame: Frame = "canvas"
    tokens: tuple[str, ...] = tuple(f"<loc{number:04d}>" for number in range(BINS))
    phrase_follows = True

    def error(self, size: tuple[int, int]) -> float:
        return 0.5 / (BINS - 1) + ROUNDING

    def write_boxes(self, boxes: Sequence[UnitBox], size: tuple[int, int]) -> str:
        rows = (to_steps(swap_axes(box), BINS - 1) for box in boxes)
        return " ; ".join("".join(f"<loc{number:04d}>" for number in row) for row in rows)

    def write_points(self, points: Sequence[UnitPoint], size: tuple[int, int]) -> str:
        raise no_form("paligemma", "points")

    def read(self, text: str, size: tuple[int, int]) -> list[Reading]:
        groups = [(self._group(match), PHRASE.match(text, match.end())) for match in GROUP.finditer(text)]
        return [labelled(group, phrase[1] if phrase else "") for group, phrase in groups]

    def _group(self, match: re.Match[str]) -> Reading:
        parts = tuple(match[0].split(";"))
        rows = [token_numbers(part, LOC) for part in parts]
        found = MarkedGroup(parts=parts, closed=True, label=None, span=match.span())
        return found.read(rows, scale=(BINS - 1, BINS - 1), y_first=True, points=False)
