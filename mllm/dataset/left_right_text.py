"""What a text says of the mirrored image: left becomes right where it surely means a side; else it is refused.

English only. A flip that is refused costs little, a wrong sentence is learned. So `left` and `right` are sides only

- in one piece: leftmost, leftward, lefthand, left-hand, left-handed, left-side, left-facing, ...
- as a pair: left and right, left or right, left to right, left/right
- before one thing of `THINGS` (places, the body, people, COCO's categories), also with a colour, if what it is part of
  goes on behind it or ends there: left side of, left arm, right red car
- after on, to, from, at, in, of, towards, facing (the, his, ...), after the, or after far, upper, lower, top, bottom,
  back-, front-, middle-, if it goes on (is, of, in, with, wearing, half, ...) or ends there

and `clockwise` has the contrary `counterclockwise`. "right now", "the right answer", "he left the room", "two are left"
and "guy left" are none of these: refused. So are leftover, rights and the like, RefCOCO's abbreviations (l, r, rt),
counter-clockwise and anticlockwise, east and west, and what a mirror makes unreadable: letters, numbers of two digits,
clocks, plates, logos, capitals in quotes.
"""

from __future__ import annotations

import re

from mllm.types import BOXES, IMAGE, POINTS

THINGS = (
    *("side", "hand side", "corner", "edge", "border", "end", "lane", "row", "column", "panel", "page", "window"),
    *("wall", "foreground", "background", "hand", "arm", "leg", "foot", "eye", "ear", "shoulder", "knee", "elbow"),
    *("wrist", "ankle", "thigh", "cheek", "paw", "wing", "horn", "shoe", "boot", "glove", "sleeve", "hip", "thumb"),
    *("wheel", "man", "woman", "person", "guy", "girl", "boy", "kid", "child", "baby", "lady", "dude", "player"),
    *("batter", "bicycle", "bike", "car", "motorcycle", "airplane", "plane", "bus", "train", "truck", "boat"),
    *("traffic light", "fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat", "dog", "horse", "cow"),
    *("elephant", "bear", "zebra", "giraffe", "backpack", "umbrella", "handbag", "tie", "suitcase", "frisbee"),
    *("snowboard", "sports ball", "kite", "baseball bat", "baseball glove", "skateboard", "surfboard"),
    *("tennis racket", "bottle", "wine glass", "cup", "fork", "knife", "spoon", "bowl", "sandwich", "hot dog"),
    *("donut", "chair", "couch", "potted plant", "dining table", "toilet", "tv", "laptop", "mouse", "keyboard"),
    *("cell phone", "microwave", "oven", "toaster", "sink", "refrigerator", "book", "vase", "teddy bear"),
    *("hair drier", "toothbrush"),
)
"""In the singular only, and what can be counted: "she left books, left pizza", but never "she left book"."""

_COLOURS = "red|green|blue|yellow|purple|orange|black|white|brown|grey|gray|pink|beige|silver"
_ENDS = (
    rf"[ ]*(?:$|[.,;:!?)\]\"\u201d\n]|['\u2019](?!\w)|{IMAGE}|{BOXES}|{POINTS})"
    r"|[ ]+(?:is|are|was|were|has|of(?![ ]+(?:way|passage)\b)|in(?![ ]+front\b)|with|(?:and|or)(?![ ]+wrong\b)|who|that"
    r"|which|from|near|wearing|holding|standing|sitting|facing|walking|playing)\b"
)
_JOINED = r"(?:most|wards?|hand(?:ed)?|side)\b|-(?:most|wards?|hand(?:ed)?|side|facing|footed)\b"
_THING = rf"[ ]+(?:(?:{_COLOURS})[ ]+)?(?:{'|'.join(THINGS)})\b(?={_ENDS}|['\u2019]s\b)"
_SIDE_BY_ITSELF = re.compile(rf"{_JOINED}|{_THING}", re.IGNORECASE)
_BEFORE = re.compile(
    r"\b(?:(?:(?:on|to|from|at|in|of|towards?|facing)[ ]+)(?:(?:the|his|her|its|their|your|my|our|far)[ ]+){0,2}"
    r"|the[ ]+|(?:far|upper|lower|top|bottom)[ -]|(?:front|back|rear|middle)-)$",  # "those in the back left"
    re.IGNORECASE,
)
_AFTER = re.compile(rf"{_ENDS}|[ ]+(?:half|third|quarter|part|portion|section|area)\b", re.IGNORECASE)
_PAIR = re.compile(r"\b(left|right)(?:[ ]+(?:and|or|to)(?:[ ]+the)?[ ]+|/)(?!\1)(left|right)\b", re.IGNORECASE)
_MENTIONS = re.compile(
    r"\b(?:(?P<side>left|right)\w*|(?:(?:counter|anti)[- ]?)*clockwise|l|r|lft|lt|rgt|rght|rt|lh|rh"
    r"|(?:north|south)?(?:east|west)(?:ern|ward)?|starboard)\b",
    re.IGNORECASE,
)
_UNREADABLE = re.compile(
    r"\b(?:the words?|which word|letters?|lettering|initials|text|says|saying|written|writing|reads|spell\w*|headline"
    r"|label\w*|logos?|clocks?|o'clock|what time|(?:licen[cs]e|number) plates?|jersey|barcode|mirrored|flipped"
    r"|(?:player|bus|train|house|room|phone|route|flight) number|does\b[^.?!]*\b(?:say|read))\b"
    r"|#[ ]?\d|\b\d\d+\b",
    re.IGNORECASE,
)
_CAPITALS = re.compile(r"[\"'\u201c\u2018][A-Z0-9][A-Z0-9 ]+[\"'\u201d\u2019]")
_CONTRARY = {"left": "right", "right": "left", "clockwise": "counterclockwise", "counterclockwise": "clockwise"}


def mirrored(text: str) -> str | None:
    """The text of the mirrored image, the case of letters kept; None where it is not sure. Its own inverse."""
    if _UNREADABLE.search(text) or _CAPITALS.search(text):
        return None
    paired = {start for match in _PAIR.finditer(text) for start in (match.start(1), match.start(2))}
    pieces: list[str] = []
    done = 0
    for match in _MENTIONS.finditer(text):
        word = match["side"] or match[0]
        start, end = match.start(), match.start() + len(word)
        contrary = _CONTRARY.get(word.lower())
        if contrary is None or (match["side"] and start not in paired and not _is_side(text, start, end)):
            return None
        swapped = _cased(contrary, word)
        if swapped is None:
            return None
        pieces += text[done:start], swapped
        done = end
    return "".join((*pieces, text[done:]))


def names_sides(text: str) -> bool:
    """Whether a text speaks of left and right at all, in whatever sense."""
    return _MENTIONS.search(text) is not None


def _is_side(text: str, start: int, end: int) -> bool:
    """Whether the `left` or `right` that stands there surely means a side."""
    if _SIDE_BY_ITSELF.match(text, end):
        return True
    return bool(_AFTER.match(text, end) and _BEFORE.search(text[:start]))


def _cased(word: str, like: str) -> str | None:
    return next((cased(word) for cased in (str.lower, str.upper, str.capitalize) if cased(like) == like), None)
