"""The words of an answer that its regions are about, where the convention does not mark them.

    The woman next to [..] a small dog [..]   ->   "The woman", "a small dog"

Finding them is a rule of thumb, for colours and captions; nothing is scored by it.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

_BOUNDARY = re.compile(r"[.,;:!?\n()\[\]{}<>\"]")
_WORD = re.compile(r"[^\s]+")
_ARTICLES = "a an the this that these those his her its their my your our another each every both some one two three"
_BETWEEN = """
is are was were be at in on to of by with and or from as it here there near beside behind located found positioned
coordinates box bounding point holding wearing next
"""
_DETERMINERS = frozenset(_ARTICLES.split())
_LEADING = frozenset(_BETWEEN.split())
"""Words that stand between a phrase and its region, and are none of it."""
_WITHOUT_DETERMINER = 3
"""Words of a phrase that has no article, at most."""
_SAYS_NOTHING = frozenset(("the answer", "answer", "the final answer"))
Span = tuple[int, int]


def phrase_before(text: str, start: int, end: int) -> Span | None:
    """Where the phrase stands that ends in front of `end`, no earlier than `start`; None where there is none.

    It is the last noun phrase by its article or the like; without one the last words, up to three.
    """
    boundaries = [match.end() for match in _BOUNDARY.finditer(text, start, end)]
    words = list(_WORD.finditer(text, boundaries[-1] if boundaries else start, end))
    while words and words[-1][0].lower() in _LEADING:
        words.pop()
    first = next((n for n in reversed(range(len(words) - 1)) if words[n][0].lower() in _DETERMINERS), None)
    words = words[-_WITHOUT_DETERMINER:] if first is None else words[first:]
    while words and words[0][0].lower() in _LEADING:
        words.pop(0)
    if not words:
        return None
    span = words[0].start(), words[-1].end()
    return None if text[slice(*span)].lower() in _SAYS_NOTHING else span


def phrase_behind(text: str, start: int, end: int) -> Span | None:
    """Where the phrase stands that begins at `start`, up to the first `;` or `end`; None where there is none."""
    stop = text.find(";", start, end)
    words = list(_WORD.finditer(text, start, end if stop < 0 else stop))
    return (words[0].start(), words[-1].end()) if words else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """Where a form with coordinates stands in a text, and its phrase, which may stand inside it."""

    span: Span
    phrase: Span | None
    readable: bool


def without_forms(text: str, forms: Sequence[Form], marks: tuple[str, str] | None) -> tuple[str, list[Span]]:
    """The text without its readable forms, phrases kept; and where in it each form's phrase stands.

    A form without a phrase has an empty place there. `marks`: what the convention puts around phrases, left out too.
    """
    cuts: list[Span] = []
    for form in forms:
        if form.readable:
            cuts += _around(text, form)
    if marks is not None:
        pattern = re.compile("|".join(map(re.escape, marks)), re.IGNORECASE)
        cuts += [match.span() for match in pattern.finditer(text)]
    left = [True] * len(text)
    for start, end in cuts:
        left[start:end] = [False] * (end - start)
    kept = [place for place in range(len(text)) if left[place]]
    while kept and text[kept[0]].isspace():
        kept.pop(0)
    while kept and text[kept[-1]].isspace():
        kept.pop()
    places = [form.phrase or (form.span[0], form.span[0]) for form in forms]
    spans = [(bisect_left(kept, start), bisect_left(kept, end)) for start, end in places]
    return "".join(text[place] for place in kept), spans


def _around(text: str, form: Form) -> list[Span]:
    """What goes with a form: all but its phrase, and a space in front that would stand before nothing."""
    start, end = form.span
    if form.phrase and start <= form.phrase[0] and form.phrase[1] <= end:
        return [(start, form.phrase[0]), (form.phrase[1], end)]
    if start and text[start - 1] == " " and (end == len(text) or text[end] in " .,;:!?)\n"):
        start -= 1
    return [(start, end)]
