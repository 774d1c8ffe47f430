"""`<b_st><bin_123><bin_456><bin_789><bin_901><b_ed>`: coordinates as tokens of the vocabulary."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated

from mllm.conversation.codec_base import Frame, Reading, UnitBox, UnitPoint
from mllm.conversation.codec_text import (
    FLAGS,
    ROUNDING,
    add_unmarked_rows,
    read_rows,
    rows_of_four,
    to_steps,
    token_numbers,
)
from mllm.fields import Range
from mllm.registry import CODECS

GROUP = re.compile(r"<(b|p)_st>(.*?)(<\1_ed>|\Z|(?=<[bp]_st>))", FLAGS)
BIN = re.compile(r"<bin_(-?\d+)>", FLAGS)


@CODECS.register_module("bins")
class Bins:
    """Fractions of the padded square in `bins` equal steps, each a token; `<b_sep>` / `<p_sep>` between regions.

    Four tokens without marks are read as a box, two as a point.

    Source: the location-token variant compared in Chen et al. 2023 (arXiv 2306.15195); 1001 bins there.
    """

    frame: Frame = "canvas"

    def __init__(self, *, bins: Annotated[int, Range(least=2, most=100_000)] = 1001) -> None:
        self.bins = bins
        marks = ("<b_st>", "<b_sep>", "<b_ed>", "<p_st>", "<p_sep>", "<p_ed>")
        self.tokens = marks + tuple(f"<bin_{number}>" for number in range(bins))

    def error(self, size: tuple[int, int]) -> float:
        return 0.5 / (self.bins - 1) + ROUNDING

    def write_boxes(self, boxes: Sequence[UnitBox], size: tuple[int, int]) -> str:
        return self._write("b", boxes)

    def write_points(self, points: Sequence[UnitPoint], size: tuple[int, int]) -> str:
        return self._write("p", points)

    def read(self, text: str, size: tuple[int, int]) -> list[Reading]:
        marked = [replace(self._group(match), span=match.span()) for match in GROUP.finditer(text)]
        return add_unmarked_rows(text, marked, BIN, self._bare)

    def _bare(self, row: list[float]) -> Reading:
        return read_rows(rows_of_four(row), scale=(self.bins - 1, self.bins - 1))

    def _group(self, match: re.Match[str]) -> Reading:
        mark, inside, closed = match[1].lower(), match[2], match[3]
        rows = [token_numbers(row, BIN) for row in re.split(rf"<{mark}_sep>", inside, flags=FLAGS)]
        if not closed or None in rows:
            return Reading(failure="malformed")
        if any(row is None or len(row) != (4 if mark == "b" else 2) for row in rows):
            return Reading(failure="wrong_count")
        return read_rows(rows, scale=(self.bins - 1, self.bins - 1))

    def _write(self, mark: str, rows: Sequence[Sequence[float]]) -> str:
        texts = ("".join(f"<bin_{number}>" for number in to_steps(row, self.bins - 1)) for row in rows)
        return f"<{mark}_st>" + f"<{mark}_sep>".join(texts) + f"<{mark}_ed>"
