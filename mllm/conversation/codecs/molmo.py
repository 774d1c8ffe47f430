"""`<point x="12.3" y="45.6" alt="dog">dog</point>`: points in percent, as XML."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from mllm.conversation.codec_bare import BareNumbers
from mllm.conversation.codec_base import Frame, Reading, UnitBox, UnitPoint, no_form
from mllm.conversation.codec_text import FLAGS, NUMBER, ROUNDING, read_rows
from mllm.registry import CODECS

ELEMENT = re.compile(
    r'<(points?)\b(?=[^<>]*?\b[xy]\d*\s*=)((?:[^<>"]|"[^"]*(?:"|\Z))*)(?:(>)(?:([^<>]*)</\1\s*>)?|\Z|(?=<))', FLAGS
)
COORDINATE = re.compile(r'\b([xy])(\d*)\s*=\s*"([^"]*)"', FLAGS)
ALT = re.compile(r'\balt\s*=\s*"([^"]*)"', FLAGS)


@CODECS.register_module("molmo")
class Molmo:
    """Percent of the original image with one decimal; no boxes; several points are `<points x1=.. y1=.. x2=.. ...>`.

    Written with an empty phrase, `alt=""`; read with any.
    Source: Deitke et al. 2024 (arXiv 2409.17146), and the model card huggingface.co/allenai/Molmo-7B-D-0924. Molmo 2
    writes points otherwise.
    """

    frame: Frame = "image"
    tokens: tuple[str, ...] = ()
    none = "There are none."
    bare = BareNumbers(scale=100, boxes=False)

    def error(self, size: tuple[int, int]) -> float:
        return 0.0005 + ROUNDING

    def write_boxes(self, boxes: Sequence[UnitBox], size: tuple[int, int]) -> str:
        raise no_form("molmo", "boxes")

    def write_points(self, points: Sequence[UnitPoint], size: tuple[int, int]) -> str:
        if len(points) == 1:
            return f'<point x="{points[0][0] * 100:.1f}" y="{points[0][1] * 100:.1f}" alt=""></point>'
        places = (f'x{place}="{x * 100:.1f}" y{place}="{y * 100:.1f}"' for place, (x, y) in enumerate(points, start=1))
        return f'<points {" ".join(places)} alt=""></points>'

    def read(self, text: str, size: tuple[int, int]) -> list[Reading]:
        return [self._group(match) for match in ELEMENT.finditer(text)]

    def _group(self, match: re.Match[str]) -> Reading:
        alt = ALT.search(match[2])
        label = (match[4] or (alt[1] if alt else "")).strip() or None
        return replace(_read(match[2], closed=bool(match[3])), label=label, span=match.span())


def _read(attributes: str, *, closed: bool) -> Reading:
    found = COORDINATE.findall(ALT.sub("", attributes))
    if not closed or not all(NUMBER.fullmatch(value) for _, _, value in found):
        return Reading(failure="malformed")
    axes = {axis: {place: float(value) for name, place, value in found if name.lower() == axis} for axis in "xy"}
    if not found or axes["x"].keys() != axes["y"].keys() or len(found) != 2 * len(axes["x"]):
        return Reading(failure="wrong_count")
    return read_rows([(x, axes["y"][place]) for place, x in axes["x"].items()], scale=(100, 100), decimals=True)
