"""What region codecs share: finding marked regions in free text, and telling their numbers from anything else."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Annotated

from mllm.conversation.codec_base import Reading, check_rows, join_readings
from mllm.fields import Range

Digits = Annotated[int, Range(least=1, most=9)]
"""Decimals of a fraction."""
FLAGS = re.IGNORECASE | re.DOTALL
NUMBER = re.compile(r"\s*[+-]?(?:\d+(?:\.\d*)?|\.\d+)\s*")
ROW = re.compile(r"\[([^\[\]]*)\]")
BRACKET = r"\[(?=[^\[\]{]*\d)"
"""Opens a list of numbers; `[sic]` does not, nor does that of a list of JSON objects."""
ROUNDING = 1e-9
"""Added to every bound: the arithmetic's own error."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MarkedGroup:
    """One group of regions as it stands in a text, its numbers not read yet."""

    parts: tuple[str, ...]
    """What stands between each pair of marks."""
    closed: bool
    label: str | None
    span: tuple[int, int]

    def read(
        self,
        rows: Iterable[Sequence[float] | None],
        *,
        scale: tuple[float, float] = (1, 1),
        y_first: bool = False,
        points: bool = True,
        decimals: bool = False,
    ) -> Reading:
        """`rows`: the numbers of each region, None where there was something else; `scale`: the 1.0 of x and of y."""
        return replace(
            read_rows(rows if self.closed else [None], scale=scale, y_first=y_first, points=points, decimals=decimals),
            label=self.label,
            span=self.span,
        )


class Marks:
    """A form with marks around each region: `opening ... closing`, repeated with `joint` between them in a group.

    The marks are regular expressions without groups of their own, in any case. `label`: the pair of marks, as they
    stand, around a phrase that may stand right before the group. An unclosed region ends where the next one opens, or
    with the text.
    """

    def __init__(self, opening: str, closing: str, *, joint: str | None = None, label: tuple[str, str] | None = None):
        region = rf"(?:{opening})(?:.*?)(?:{closing}|(?={opening})|\Z)"
        between = rf"\s*(?:{joint}\s*)" if joint else r"\s*"
        several = "" if joint is None else rf"(?:{between}{region})*"
        phrase = "()" if label is None else rf"(?:{re.escape(label[0])}([^<>]*){re.escape(label[1])}\s*)?"
        self._group = re.compile(f"{phrase}({region}{several})", FLAGS)
        self._region = re.compile(rf"(?:{opening})(.*?)({closing}|(?={opening})|\Z)", FLAGS)

    def find(self, text: str) -> Iterator[MarkedGroup]:
        for group in self._group.finditer(text):
            regions = list(self._region.finditer(group[2]))
            yield MarkedGroup(
                parts=tuple(region[1] for region in regions),
                closed=all(region[2] for region in regions),
                label=(group[1] or "").strip() or None,
                span=group.span(),
            )


def numbers(text: str) -> list[float] | None:
    """The numbers between commas; None where anything else stands there."""
    parts = text.split(",")
    return [float(part) for part in parts] if all(map(NUMBER.fullmatch, parts)) else None


def rows_in_lists(inside: str) -> list[list[float] | None]:
    """The numbers of `[[12, 34, 56, 78], [..]]`, with or without brackets around each row; None for a row of others."""
    if "[" not in inside:
        return [numbers(inside)]
    around = re.sub(r"[\s,]", "", ROW.sub("", inside))
    return [numbers(row) for row in ROW.findall(inside)] if around in ("", "[]") else [None]


def add_unmarked_rows(
    text: str, found: Sequence[Reading], token: re.Pattern[str], read: Callable[[list[float]], Reading]
) -> list[Reading]:
    """What was found by its marks, and the rows of at least two tokens that stand without, in the order of the text.

    `read` makes a group of the numbers of a row; `token` has one group, its number.
    """
    spans = [reading_.span for reading_ in found if reading_.span is not None]
    row = re.compile(rf"(?:{token.pattern})(?:\s*(?:{token.pattern}))+", token.flags)
    rows = [
        replace(read([float(number) for number in token.findall(match[0])]), span=match.span())
        for match in row.finditer(text)
        if not any(start < match.end() and match.start() < end for start, end in spans)
    ]
    return sorted([*found, *rows], key=lambda reading_: reading_.span or (0, 0))


def labelled(group: Reading, words: str) -> Reading:
    """The group with words as the label of each of its regions, which stand in the text beside the form."""
    label = words.strip(" \n.,;:")
    return replace(group, labels=(label,) * len(group.boxes)) if label else group


def rows_of_four(row: Sequence[float]) -> list[Sequence[float]]:
    """Rows of four numbers from one; what is left over is a row too."""
    return [row[start : start + 4] for start in range(0, len(row), 4)]


def token_numbers(text: str, token: re.Pattern[str]) -> list[float] | None:
    """The numbers in a row of tokens, the only group of `token`; None where anything but spaces stands between."""
    return None if token.sub("", text).strip() else [float(number) for number in token.findall(text)]


def read_rows(
    rows: Iterable[Sequence[float] | None],
    *,
    scale: tuple[float, float] = (1, 1),
    y_first: bool = False,
    points: bool = True,
    decimals: bool = False,
) -> Reading:
    """One group from the numbers of its regions; a row that is None is malformed.

    Fractions where `scale` is above 1 are of another frame, out of range, unless the form's numbers have `decimals`.
    """
    found: list[Reading] = []
    for row in rows:
        whole = min(scale) > 1 and not decimals
        if row is None:
            found.append(Reading(failure="malformed"))
        elif whole and all(0 <= value <= 1 for value in row) and any(value % 1 for value in row):
            found.append(Reading(failure="out_of_range"))
        else:
            ordered = swap_axes(row) if y_first else row
            found.append(check_rows([[value / scale[place % 2] for place, value in enumerate(ordered)]], points=points))
    return join_readings(found)


def swap_axes(row: Sequence[float]) -> list[float]:
    """y, x, y, x -> x, y, x, y, and back; an odd last number stays where it is."""
    return [row[place ^ 1] if place ^ 1 < len(row) else row[place] for place in range(len(row))]


def to_steps(row: Sequence[float], steps: int, top: int | None = None) -> list[int]:
    """Fractions as whole numbers: the nearest of `steps` equal steps, at most `top`."""
    return [min(round(value * steps), steps if top is None else top) for value in row]
