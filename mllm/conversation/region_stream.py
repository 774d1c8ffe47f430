"""The regions of an answer while it is generated: each is given once no continuation of the text can change it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import takewhile

from mllm.conversation.codec_base import Reading, RegionCodec, phrase_follows
from mllm.errors import ConfigError

_BOX, _POINT = (0.25, 0.25, 0.75, 0.75), (0.25, 0.25)
_CLOSINGS = ("\n]\n```", "\n```", "]\n```", "\n]", "</point>", "</points>")
"""What models write behind a form that could end there: arrays and code fences of JSON, Molmo's elements."""


class RegionStream:
    """Finds the final groups of a growing text: those that no continuation changes.

    A continuation is what the codec itself would write from any place in a group of two regions on. Whether numbers
    without the marks of their family are regions shows only at the end of a text: they are never final.

    `size`: the frame's (width, height) in pixels.
    """

    def __init__(self, codec: RegionCodec, size: tuple[int, int]) -> None:
        self.codec = codec
        self.size = size
        self._done = 0
        """Where the last final group ends."""
        self._continuations = list(dict.fromkeys(_endings(codec, size)))

    def new_groups(self, text: str) -> list[Reading]:
        """The groups that became final since the last call, in order; `text` begins with the text of that call."""
        rest = text[self._done :]
        final = self.codec.read(rest, self.size)
        if phrase_follows(self.codec):
            final = list(takewhile(lambda reading: reading.span and ";" in rest[reading.span[1] :], final))
        for more in list(self._continuations):
            if not final:
                return []
            longer = self.codec.read(rest + more, self.size)
            same = [now for now, _ in takewhile(lambda pair: pair[0] == pair[1], zip(final, longer, strict=False))]
            if len(same) < len(final):  # it most likely changes the next text too
                self._continuations.remove(more)
                self._continuations.insert(0, more)
            final = same
        if not (self._done or any(map(_tells, final))):  # all may give way to numbers without marks
            return []
        start, spans = self._done, [reading.span for reading in final]
        self._done += spans[-1][1] if spans[-1] else 0
        return [
            replace(reading, span=span and (start + span[0], start + span[1]))
            for reading, span in zip(final, spans, strict=True)
        ]


def _tells(reading: Reading) -> bool:
    return reading.failure != "malformed" or bool(reading.boxes or reading.points)


def _endings(codec: RegionCodec, size: tuple[int, int]) -> Iterator[str]:
    """What may be left to write of a group of two, and of what closes it, from anywhere but inside a number on."""
    written = [*_CLOSINGS]
    for write, region in ((codec.write_boxes, _BOX), (codec.write_points, _POINT)):
        try:
            written.append(write([region, region], size))  # pyright: ignore[reportArgumentType]
        except ConfigError:
            continue  # the family has no form for these
    for text in written:
        for place in range(len(text)):
            if not (text[place].isdigit() and text[place - 1].isdigit()):
                yield text[place:]
