"""Boxes and points in the words of a text: whose convention are they?"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache

from mllm.conversation.codec_base import Reading, RegionCodec, phrase_marks
from mllm.dataset.written_regions import writes_coordinates, written_regions
from mllm.registry import CODECS

SIZE = (100_000, 100_000)
"""Pixels of the frame that numbers are read in, larger than any: only those of `qwen25_vl` depend on it."""
NUMBER = re.compile(r"\d+(?:\.\d*)?")
BARE = re.compile(r"[\[\]()\d.,; ]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenRegions:
    """Regions in words, and the codecs that write such; none where only the form tells."""

    words: str
    codecs: tuple[str, ...]

    @property
    def is_bare(self) -> bool:
        """Whether they are numbers in mere brackets, which may be anything else where there is no image."""
        return BARE.fullmatch(self.words) is not None


def region_words(text: str) -> list[WrittenRegions]:
    """The regions in the words of a text, in order.

    A codec matches where it would write the same numbers for what it reads; of a form inside a longer one the longer
    counts. Bare pairs of numbers are no points. Where none matches, marks count: around numbers that are out of range,
    say, or around a phrase alone. Beside the codecs' own, public forms that no codec reads.
    """
    codecs = public_codecs()
    groups = {name: codec.read(text, SIZE) for name, codec in codecs.items()} if writes_coordinates(text) else {}
    found = [
        (span, name)
        for name, readings in groups.items()
        for reading in readings
        if (span := reading.span) is not None and _would_write(codecs[name], reading, text[slice(*span)])
    ]
    if not found:
        marked = ((name, _marked(codec, groups.get(name), text)) for name, codec in codecs.items())
        found = [(span, name) for name, span in marked if span]
    by_span: dict[tuple[int, int], list[str]] = {span: [] for span in written_regions(text)}
    for span, name in found:
        by_span.setdefault(span, []).append(name)
    outer: list[WrittenRegions] = []
    covered = 0
    for start, end in sorted(by_span, key=lambda span: (span[0], -span[1])):
        if end > covered:
            outer.append(WrittenRegions(words=text[start:end], codecs=tuple(sorted(by_span[start, end]))))
            covered = end
    return outer


def _would_write(codec: RegionCodec, reading: Reading, words: str) -> bool:
    """Whether the numbers that the codec itself writes for a group stand in its words."""
    if reading.failure is not None or not all(
        0 <= value <= 1 for region in (*reading.boxes, *reading.points) for value in region
    ):
        return False
    stand = _numbers(words.replace(reading.label or "\0", ""))
    if reading.boxes:
        return _are_in(stand, (codec.write_boxes([box], SIZE) for box in reading.boxes))
    texts = [codec.write_points([point], SIZE) for point in reading.points]
    return not any(map(BARE.fullmatch, texts)) and _are_in(stand, texts)


def _are_in(stand: Sequence[float], texts: Iterable[str]) -> bool:
    """Whether the numbers of each text stand there together, each behind those of the text before."""
    done = 0
    for text in texts:
        written = _numbers(text)
        starts = range(done, len(stand) - len(written) + 1)
        start = next((start for start in starts if stand[start : start + len(written)] == written), None)
        if start is None:
            return False
        done = start + len(written)
    return True


def _marked(codec: RegionCodec, readings: Sequence[Reading] | None, text: str) -> tuple[int, int] | None:
    """Where marks stand that are tokens of the codec: around what it cannot read, or around a phrase."""
    if codec.tokens and readings:
        return readings[0].span
    marks = phrase_marks(codec)
    if marks is None or marks[0] not in codec.tokens or marks[0] not in text:
        return None
    return text.index(marks[0]), len(text)


def _numbers(text: str) -> Sequence[float]:
    return [float(number) for number in NUMBER.findall(text)]


@cache
def public_codecs() -> dict[str, RegionCodec]:
    """The codecs of public families, by name."""
    return {name: CODECS.make(name) for name in CODECS.names() if CODECS.find(name).__module__.startswith("mllm.")}
