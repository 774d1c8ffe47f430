"""`<points coords="1 1 123 456 2 789 901">dog</points>`: numbered points in thousandths, as XML."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from mllm.conversation.codec_bare import BareNumbers
from mllm.conversation.codec_base import Frame, Reading, UnitBox, UnitPoint, no_form
from mllm.conversation.codec_text import FLAGS, NUMBER, ROUNDING, read_rows, to_steps
from mllm.registry import CODECS

ELEMENT = re.compile(
    r'<points\b(?=[^<>]*?\bcoords\s*=)\s*coords\s*=\s*("?)([^"<>]*)(")?[^<>]*?(?:/>|(>)(?:([^<>]*)</points\s*>)?|\Z|(?=<))',
    FLAGS,
)
STEPS = 1000


@CODECS.register_module("molmo2")
class Molmo2:
    """Thousandths of the original image, three digits at least: the number of the image, then number, x and y of each
    point; no boxes. Images after the first follow `;`.

    Written for one image, with an empty phrase; read with any.
    Source: huggingface.co/allenai/Molmo2-8B, model card; github.com/allenai/molmo2.
    """

    frame: Frame = "image"
    tokens: tuple[str, ...] = ()
    none = "There are none."
    bare = BareNumbers(scale=STEPS, boxes=False)

    def error(self, size: tuple[int, int]) -> float:
        return 0.5 / STEPS + ROUNDING

    def write_boxes(self, boxes: Sequence[UnitBox], size: tuple[int, int]) -> str:
        raise no_form("molmo2", "boxes")

    def write_points(self, points: Sequence[UnitPoint], size: tuple[int, int]) -> str:
        places = (" ".join(f"{number:03d}" for number in to_steps(point, STEPS)) for point in points)
        return f'<points coords="1 {" ".join(f"{n} {place}" for n, place in enumerate(places, start=1))}"></points>'

    def read(self, text: str, size: tuple[int, int]) -> list[Reading]:
        return [self._group(match) for match in ELEMENT.finditer(text)]

    def _group(self, match: re.Match[str]) -> Reading:
        label = (match[5] or "").strip() or None
        closed = bool(match[1] and match[3] and match[0].endswith(">"))
        return replace(_read(match[2], closed=closed), label=label, span=match.span())


def _read(coordinates: str, *, closed: bool) -> Reading:
    images = [part.split() for part in re.split(r"[;\t]", coordinates)]
    if not closed or not all(NUMBER.fullmatch(value) for part in images for value in part):
        return Reading(failure="malformed")
    if any(len(part) < 4 or len(part) % 3 != 1 for part in images):
        return Reading(failure="wrong_count")
    rows = [(float(part[place]), float(part[place + 1])) for part in images for place in range(2, len(part), 3)]
    return read_rows(rows, scale=(STEPS, STEPS))
