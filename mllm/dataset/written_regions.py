"""Coordinates of images that stand in words: as numbers, and in the marks that public formats put around them."""

from __future__ import annotations

import re
from collections.abc import Iterator

_N = r"-?\d+(?:\.\d*)?"
_COORDINATES = re.compile(
    rf"[\[({{<][ ]*{_N}(?:[ ]*,[ ]*{_N})+"  # [12, 34, ...
    r"|\d*\.\d+[ ]*[, ][ ]*\d*\.\d+"  # .25, 0.5
    r"|<[a-z_]*\d+>|\b[xy]\d?=\"",  # <loc0012>, <patch_index_0044>, <25>, x="61.5"
    re.IGNORECASE,
)
_NAME = r"[a-z_\d-]{0,20}(?:box|quad|poly|point|coord|region|roi|rect|det)[a-z_\d-]{0,20}"
_NUMBERS = rf"[\s\[({{]*{_N}(?:[\s,;\[\](){{}}]+{_N})+"
_CORNER = rf"\(\s*({_N})\s*,\s*({_N})\s*\)"
_FORMS = re.compile(
    # <quad>(1,2),(3,4),(5,6),(7,8)</quad>
    rf"<\|?{_NAME}\|?>(?:{_NUMBERS}|(?:\s*<\d+>){{2,}})[\s\])}}]*(?:</?\|?/?{_NAME}\|?>)?"
    r"|<\|?/?(?:bbox|quad|ref-object)\|?>"  # alone they stand for a region that the record holds elsewhere
    r"|&lt;\|?(?:[a-z_\d-]{0,20}(?:box|quad)[a-z_\d-]{0,20}\|?&gt;|points?\s+[xy]1?=)"  # marks as HTML entities
    r"|(?:&lt;[a-z_]*\d+&gt;\s*){2,}"
    r"|</?box>|</points?>|<\|box_(?:start|end)\|>"  # marks that were torn off their numbers
    r"|[\uff3b\uff08]\s*\d[\d.]*(?:\s*[,\uff0c]\s*\d[\d.]*){3,}\s*[\uff3d\uff09]"  # in full-width brackets
    rf"|[\"']{_NAME}[\"']\s*:\s*[\"']?[\[(]{_NUMBERS}[\s\])]*"  # "bbox": [1, 2, 3, 4]
    rf"|\b{_NAME}\s*=\s*[\"'\[(]+{_NUMBERS}[\s\])]*[\"']?"  # data-bbox="1 2 3 4", start_box='(1,2)'
    rf"|(?<![\d)\]])(?<!\),)(?<!\), ){_CORNER}\s*,\s*{_CORNER}(?!\s*,?\s*\()",  # (12,34),(56,78)
    re.IGNORECASE,
)
_HINT = re.compile(
    r"[<({\[\"'>\uff3b\uff08]\s*-?\d|<\|?/?(?:bbox|box|quad|ref-object)|</point|&lt;[a-z_|]*(?:box|quad|point|\d)",
    re.IGNORECASE,
)
"""What any of the forms holds, and few other texts."""


def writes_coordinates(text: str) -> bool:
    """Whether the words hold coordinates as numbers, which do not move with the image."""
    return _COORDINATES.search(text) is not None or any(True for _ in written_regions(text))


def written_regions(text: str) -> Iterator[tuple[int, int]]:
    """Where regions stand by their form, whoever wrote them: numbers in marks, under a name, or two corners of a box.

    Corners in parentheses without marks may be anything else that comes in pairs: they count where they span a box of
    numbers that are fractions, or of at least two digits.
    """
    if not _HINT.search(text):
        return
    for match in _FORMS.finditer(text):
        if match[1] is None or _is_box([float(part) for part in match.groups()], match[0]):
            yield match.span()


def _is_box(corners: list[float], words: str) -> bool:
    x1, y1, x2, y2 = corners
    return 0 <= x1 < x2 and 0 <= y1 < y2 and bool(re.search(r"\d\.\d|\d\d", words))
