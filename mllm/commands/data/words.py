"""Boxes and points that stand in words, which a model would learn letter by letter: whose convention are they?"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import cache

from mllm.commands.data.faults import Fault
from mllm.conversation.codec_base import Reading, RegionCodec, phrase_marks
from mllm.conversation.convention import Convention, ConversionError
from mllm.conversation.processor import Processor
from mllm.conversation.region_conversion import find
from mllm.dataset.left_right_text import writes_coordinates
from mllm.registry import REGIONS
from mllm.types import Item

KIND = "region-words"
SIZE = (100_000, 100_000)
"""Pixels of the frame that numbers are read in, larger than any: only those of `qwen25_vl` depend on it."""
NUMBER = re.compile(r"\d+(?:\.\d+)?")
BARE = re.compile(r"[\[\]\d.,; ]+")
SHOWN = 60
"""Characters of a text that a warning shows."""


def words_faults(item: Item, processor: Processor, where: str) -> Iterator[Fault]:
    """A warning for each turn whose words are not what this processor's model should learn; sizes must be known.

    An item without images is about none. Words that its codec itself would write, without tokens of its own, are right
    as they stand where they lie on the image.
    """
    for number, turn in enumerate(item.turns if item.images else ()):
        found = region_words(turn.text)
        if not found:
            continue
        names, words = found
        own = next((name for name in names if type(_codecs()[name]) is type(processor.codec)), None)
        if own is None or processor.codec.tokens:
            reason: str | None = (
                f"expected <boxes> or plain words, found {words[:SHOWN]!r}, as {' or '.join(names)} writes regions: "
                f"they are learned as words, unless the dataset reads them by regions={names[0]!r}, or mllm regions "
                f"convert --from {names[0]} --to typed"
            )
        else:
            reason = _off_image(
                item, number, Convention(name=own, codec=processor.codec, placement=processor.view.placement)
            )
        if reason:
            yield Fault(where=where, reason=f"conversations[{number}].value: {reason}", kind=KIND)


def _off_image(item: Item, number: int, convention: Convention) -> str | None:
    """Why words of the model's own convention are none on the image of their turn; None also where that is not said."""
    turn = item.turns[number]
    image = item.image_of(number if turn.role == "human" else number - 1)
    if image is None:
        return None
    size = item.images[image].size
    try:
        list(find(turn.text, lambda: size, convention, image=image))
    except ConversionError as error:
        return f"words that are learned as they stand, but {error}"
    return None


def region_words(text: str) -> tuple[list[str], str] | None:
    """The codecs whose regions a text holds, and the first of them in the text.

    A codec matches where it would write the same numbers for what it reads; of a form inside a longer one the longer
    counts. Bare pairs of numbers are no points. Where none matches, marks count: around numbers that are out of range,
    say, or around a phrase alone.
    """
    groups = {name: codec.read(text, SIZE) for name, codec in _codecs().items()} if writes_coordinates(text) else {}
    found = {
        name: span
        for name, readings in groups.items()
        for reading in reversed(readings)  # the first stays
        if (span := reading.span) is not None and _would_write(_codecs()[name], reading, text[slice(*span)])
    }
    if not found:
        found = {name: span for name, codec in _codecs().items() if (span := _marked(codec, groups.get(name), text))}
    if not found:
        return None
    outer = {
        name: (start, end)
        for name, (start, end) in found.items()
        if not any(first <= start and end <= last and (start, end) != (first, last) for first, last in found.values())
    }
    start, end = min(outer.values())
    return sorted(outer), text[start:end]


def _would_write(codec: RegionCodec, reading: Reading, words: str) -> bool:
    """Whether the numbers of a group, whose words these are, are those that the codec itself writes for it."""
    if reading.failure is not None or not all(
        0 <= value <= 1 for region in (*reading.boxes, *reading.points) for value in region
    ):
        return False
    words = words.replace(reading.label or "\0", "")
    if reading.boxes:
        return _numbers(words) == _numbers(codec.write_boxes(reading.boxes, SIZE))
    written = codec.write_points(reading.points, SIZE)
    return not BARE.fullmatch(written) and _numbers(words) == _numbers(written)


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
def _codecs() -> dict[str, RegionCodec]:
    """The codecs of public families, by name."""
    return {name: REGIONS.make(name) for name in REGIONS.names() if REGIONS.find(name).__module__.startswith("mllm.")}
