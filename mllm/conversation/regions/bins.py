"""`<b_st><bin_123><bin_456><bin_789><bin_901><b_ed>`: coordinates as tokens of the vocabulary."""

from __future__ import annotations

import re
from collections.abc import Sequence

from mllm.conversation.region import Frame, Reading, UnitBox, UnitPoint, reading
from mllm.registry import REGIONS

GROUP = re.compile(r"<(b|p)_st>(.*?)(<\1_ed>|$|(?=<[bp]_st>))", re.IGNORECASE | re.DOTALL)
BIN = re.compile(r"<bin_(\d+)>", re.IGNORECASE)


@REGIONS.register_module("bins")
class Bins:
    """Fractions of the padded square in `bins` equal steps, each a token; `<b_sep>` / `<p_sep>` between regions.

    Source: the location-token variant compared in Chen et al. 2023 (arXiv 2306.15195); 1001 bins there.
    """

    frame: Frame = "canvas"

    def __init__(self, *, bins: int = 1001) -> None:
        self.bins = bins
        self.error = 0.5 / (bins - 1) + 1e-9
        marks = ("<b_st>", "<b_sep>", "<b_ed>", "<p_st>", "<p_sep>", "<p_ed>")
        self.tokens = marks + tuple(f"<bin_{number}>" for number in range(bins))

    def write_boxes(self, boxes: Sequence[UnitBox], size: tuple[int, int]) -> str:
        return self._write("b", boxes)

    def write_points(self, points: Sequence[UnitPoint], size: tuple[int, int]) -> str:
        return self._write("p", points)

    def read(self, text: str, size: tuple[int, int]) -> list[Reading]:
        found: list[Reading] = []
        for match in GROUP.finditer(text):
            mark, inside, closed = match[1].lower(), match[2], match[3]
            rows = re.split(rf"<{mark}_sep>", inside, flags=re.IGNORECASE)
            if not closed or any(BIN.sub("", row).strip() for row in rows):
                found.append(Reading(failure="malformed"))
                continue
            values = [[int(number) / (self.bins - 1) for number in BIN.findall(row)] for row in rows]
            expected = 4 if mark == "b" else 2
            wrong = any(len(row) != expected for row in values)
            found.append(Reading(failure="wrong_count") if wrong else reading(values))
        return found

    def _write(self, mark: str, rows: Sequence[Sequence[float]]) -> str:
        texts = ("".join(f"<bin_{round(value * (self.bins - 1))}>" for value in row) for row in rows)
        return f"<{mark}_st>" + f"<{mark}_sep>".join(texts) + f"<{mark}_ed>"
