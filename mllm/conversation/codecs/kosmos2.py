"""`<object><patch_index_0044><patch_index_0863></object>`: two cells of a grid as tokens."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import replace

from mllm.conversation.codec_base import Frame, Reading, UnitBox, UnitPoint, check_rows, no_form
from mllm.conversation.codec_text import FLAGS, ROUNDING, MarkedGroup, Marks, add_unmarked_rows, token_numbers
from mllm.registry import CODECS

DELIMITER = "</delimiter_of_multi_objects/>"
PHRASE = ("<phrase>", "</phrase>")
GROUPS = Marks("<object>", "</object>", label=PHRASE)
PATCH = re.compile(r"<patch_index_(-?\d+)>", FLAGS)
CELLS = 32
"""Cells along each side."""


@CODECS.register_module("kosmos2")
class Kosmos2:
    """The cells, of 32 x 32 over the original image, that hold a box's corners; no points.

    `<phrase>phrase</phrase>` may stand before. As in the original, a box is read from centre to centre of its cells, so
    that it never touches the border of the image (0.016 to 0.984): half a cell off at most. Where both corners share
    a row or a column of cells, it is read from edge to edge: a cell off at most, which is the bound. A corner on the
    line between two cells belongs to the inner one. Two cells without marks are read too.
    Source: Peng et al. 2023 (arXiv 2306.14824); github.com/microsoft/unilm, kosmos-2/demo/decode_string.py;
    transformers' Kosmos2Processor.
    """

    frame: Frame = "image"
    tokens: tuple[str, ...] = (
        *("<phrase>", "</phrase>", "<object>", "</object>", DELIMITER, "<grounding>"),
        *(f"<patch_index_{number:04d}>" for number in range(CELLS**2)),
    )
    phrase = PHRASE

    def error(self, size: tuple[int, int]) -> float:
        return 1 / CELLS + ROUNDING

    def write_boxes(self, boxes: Sequence[UnitBox], size: tuple[int, int]) -> str:
        return "<object>" + DELIMITER.join(map(_patches, boxes)) + "</object>"

    def write_points(self, points: Sequence[UnitPoint], size: tuple[int, int]) -> str:
        raise no_form("kosmos2", "points")

    def read(self, text: str, size: tuple[int, int]) -> list[Reading]:
        marked = [replace(_read(found), label=found.label, span=found.span) for found in GROUPS.find(text)]
        return add_unmarked_rows(text, marked, PATCH, lambda row: _boxes([row]))


def _patches(box: UnitBox) -> str:
    first = [min(math.floor(value * CELLS), CELLS - 1) for value in box[:2]]
    last = [max(math.ceil(value * CELLS) - 1, start) for value, start in zip(box[2:], first, strict=True)]
    return "".join(f"<patch_index_{row * CELLS + column:04d}>" for column, row in (first, last))


def _read(found: MarkedGroup) -> Reading:
    rows = [token_numbers(row, PATCH) for row in re.split(re.escape(DELIMITER), found.parts[0], flags=FLAGS)]
    return _boxes(rows if found.closed else [None])


def _boxes(rows: Sequence[Sequence[float] | None]) -> Reading:
    """One group from the two cells of each of its boxes; None is malformed."""
    boxes: list[tuple[float, ...]] = []
    for row in rows:
        if row is None:
            return Reading(failure="malformed")
        if len(row) != 2:
            return Reading(failure="wrong_count")
        if not all(0 <= patch < CELLS**2 for patch in row):
            return Reading(failure="out_of_range")
        (y1, x1), (y2, x2) = (divmod(int(patch), CELLS) for patch in row)
        start, end = (0.0, 1.0) if x1 == x2 or y1 == y2 else (0.5, 0.5)
        if x1 > x2 or y1 > y2:
            return Reading(failure="inverted")
        boxes.append(tuple(cell / CELLS for cell in (x1 + start, y1 + start, x2 + end, y2 + end)))
    return check_rows(boxes)
