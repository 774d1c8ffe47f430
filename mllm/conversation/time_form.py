"""Time spans as text: `12.3 to 45.6 seconds`, and what models write in its place."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from mllm.answers import stated, steps_of
from mllm.conversation.codec_base import RegionCodec
from mllm.types import Failure, Form, Item, Prediction, TimeSpan

_TIME = r"(?:\d{1,3}:)?\d{1,2}:\d{2}(?:\.\d+)?|\d+(?:\.\d+)?"
_UNIT = r"\s*(?:seconds?|secs?|s)\b"
_BETWEEN = r"\s*(?:-{1,2}|\u2013|\u2014|~|\bto\b|\buntil\b|\btill\b|\bthrough\b)\s*"
_A, _B = rf"<?({_TIME})({_UNIT})?>?", rf"(?:at\s+)?<?({_TIME})({_UNIT})?>?"
_PAIR = re.compile(rf"(?<![\d.:-]){_A}{_BETWEEN}{_B}|\bbetween\s+{_A}\s*\band\b\s*{_B}", re.IGNORECASE)
_KEYED = rf'\s*:\s*"?({_TIME})(?:{_UNIT})?"?'
_KEYS = re.compile(rf'"start(?:_time)?"{_KEYED}\s*,\s*"end(?:_time)?"{_KEYED}', re.IGNORECASE)
_LIST = re.compile(rf"[\[(]\s*({_TIME})\s*,\s*({_TIME})\s*[\])]")
_MOMENT = re.compile(rf"(?<![\w.])(?:{_TIME}){_UNIT}|(?<![\d:])\d{{1,2}}:\d{{2}}(?![\d:])", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeReading:
    """The spans of an answer, and why one could not be read.

    `form`: with a unit or as a clock ("marked"), or as bare numbers; None where there is nothing.
    """

    spans: tuple[TimeSpan, ...] = ()
    failure: Failure | None = None
    form: Form | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeForm:
    """How a family writes time spans; all read the same forms.

    Attributes:
        between: what stands between start and end.
        unit: what follows a span.
        digits: decimals of a second.
    """

    between: str = " to "
    unit: str = " seconds"
    digits: int = 1

    def write(self, spans: Sequence[TimeSpan]) -> str:
        """One group; `read` gives each time within half of its last decimal."""
        return ", ".join(
            f"{span.start:.{self.digits}f}{self.between}{span.end:.{self.digits}f}{self.unit}" for span in spans
        )

    def read(self, text: str, duration: float | None = None) -> TimeReading:
        """All spans of a text: `12.3 to 45.6 seconds`, `12.3s - 45.6s`, `00:12 - 01:05.5`, `between 3 and 5 s`,
        `{"start": 12.3, "end": 45.6}`; where there is none of these, `12.3 - 45.6` and `[12.3, 45.6]`.

        `duration`: of the video in seconds: a span that begins behind it is out of range.
        """
        marked = list(_marked(text))
        bare = [] if marked else list(_bare(text))
        if not (marked or bare):
            return TimeReading(failure="malformed" if _MOMENT.search(text) else None)
        spans: list[TimeSpan] = []
        failure: Failure | None = None
        for start, end in marked or bare:
            span = _span(start, end, duration)
            if isinstance(span, TimeSpan):
                spans.append(span)
            else:
                failure = failure or span
        return TimeReading(spans=tuple(spans), failure=failure, form="marked" if marked else "bare")


def time_form(codec: RegionCodec) -> TimeForm:
    """How a codec's family writes time spans."""
    return getattr(codec, "time_form", TimeForm())


def with_time_spans(prediction: Prediction, item: Item, codec: RegionCodec) -> Prediction:
    """The prediction with the time spans of its text, where that states its answer; only of items with a time."""
    if not item.has_time:
        return prediction
    read = time_form(codec).read(stated(prediction.text), item.duration)
    found: tuple[str, ...] = ()
    if read.form is not None and not (prediction.boxes or prediction.points):
        found = (*steps_of(prediction.text, "stated"), read.form)
    return replace(
        prediction,
        time_spans=read.spans,
        time_failure=read.failure,
        duration=item.duration,
        read_by=found or prediction.read_by,
    )


def _marked(text: str) -> Iterator[tuple[float, float]]:
    """Start and end of each pair that has a unit, is a clock, or stands under names."""
    found = [(match.start(), match[1], match[2]) for match in _KEYS.finditer(text)]
    for match in _PAIR.finditer(text):
        start, unit, end, last = (match[place] or match[place + 4] for place in range(1, 5))
        if unit or last or (":" in start and ":" in end):
            found.append((match.start(), start, end))
    yield from ((_seconds(start), _seconds(end)) for _, start, end in sorted(found))


def _bare(text: str) -> Iterator[tuple[float, float]]:
    found = [(match.start(), match[1] or match[5], match[3] or match[7]) for match in _PAIR.finditer(text)]
    found += [(match.start(), match[1], match[2]) for match in _LIST.finditer(text)]
    yield from ((_seconds(start), _seconds(end)) for _, start, end in sorted(found))


def _span(start: float, end: float, duration: float | None) -> TimeSpan | Failure:
    if start > end:
        return "inverted"
    if duration is not None and start > duration:
        return "out_of_range"
    return TimeSpan(start=start, end=end)


def _seconds(text: str) -> float:
    """`75.5` and `01:15.5` alike."""
    seconds = 0.0
    for part in text.split(":"):
        seconds = 60 * seconds + float(part)
    return seconds
