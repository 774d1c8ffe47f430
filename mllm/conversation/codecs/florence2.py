"""`<loc_123><loc_456><loc_789><loc_901>`: tokens of the vocabulary."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from mllm.conversation.codec_base import Frame, Reading, UnitBox, UnitPoint, no_form
from mllm.conversation.codec_text import FLAGS, ROUNDING, MarkedGroup, labelled, rows_of_four, token_numbers
from mllm.registry import CODECS

_TOKEN = r"<loc_\s*[+-]?\d[^<>]*(?:>|(?=<)|\Z)"
GROUP = re.compile(rf"{_TOKEN}(?:\s*{_TOKEN})*", FLAGS)
LOC = re.compile(r"<loc_\s*([+-]?\d+)\s*>", FLAGS)
BINS = 1000


@CODECS.register_module("florence2")
class Florence2:
    """The bin, of 1000 over the original image, that holds each coordinate, xyxy, read at its middle; no points.

    Several boxes follow each other, four tokens each. The phrase stands before them as plain text, `cat<loc_123>...`.
    All words since the boxes before are read as their label, and stay where they are.
    Source: Xiao et al. 2023 (arXiv 2311.06242); transformers' Florence2PostProcessor (quantize, dequantize).
    """

    frame: Frame = "image"
    tokens: tuple[str, ...] = tuple(f"<loc_{number}>" for number in range(BINS))

    def error(self, size: tuple[int, int]) -> float:
        return 0.5 / BINS + ROUNDING

    def write_boxes(self, boxes: Sequence[UnitBox], size: tuple[int, int]) -> str:
        return "".join(f"<loc_{min(math.floor(value * BINS), BINS - 1)}>" for box in boxes for value in box)

    def write_points(self, points: Sequence[UnitPoint], size: tuple[int, int]) -> str:
        raise no_form("florence2", "points")

    def read(self, text: str, size: tuple[int, int]) -> list[Reading]:
        matches = list(GROUP.finditer(text))
        ends = [0, *(match.end() for match in matches)]
        before = [text[end : match.start()] for end, match in zip(ends, matches, strict=False)]
        return [labelled(self._group(match), words) for match, words in zip(matches, before, strict=True)]

    def _group(self, match: re.Match[str]) -> Reading:
        bins = token_numbers(match[0], LOC)
        middles = None if bins is None else [number + 0.5 for number in bins]
        rows = [None] if middles is None else rows_of_four(middles)
        found = MarkedGroup(parts=(match[0],), closed=True, label=None, span=match.span())
        return found.read(rows, scale=(BINS, BINS), points=False, decimals=True)
