"""What a model answered, taken out of what it said."""

from __future__ import annotations

import re

_MARK = re.compile(r"(?:,?\s*\b(?:so )?the )?\banswer(?:\s+is\b\s*:?|\s*:)\s*", re.IGNORECASE)
"""As in `So the answer is ...` and `Answer: ...`."""

_END = re.compile(r"(?<![.\s][A-Za-z])(?<!\bmr)(?<!\bmrs)(?<!\bms)(?<!\bdr)(?<!\bst)[.!?](?=\s|$)", re.IGNORECASE)
"""The end of a sentence, not of a letter or a title: `U.S. flag`, `Dr. Pepper`."""


def short_answer(text: str) -> str:
    """What stands after the first `the answer is` or `Answer:`, to the end of its sentence; else the whole text.

    Further answers behind it count for nothing. Spaces and a final full stop are left out.
    """
    mark = _MARK.search(text)
    if mark is None:
        return text.strip().removesuffix(".").rstrip()
    said = text[mark.end() :].split("\n")[0]
    end = _END.search(said)
    said = said if end is None else said[: end.start()]
    return _MARK.split(said)[0].strip().removesuffix(".").rstrip()
