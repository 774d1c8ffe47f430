"""The regions of an answer that is still being written: which of them will not change any more."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import takewhile

from mllm.conversation.codec_base import Reading, RegionCodec, phrase_follows
from mllm.errors import ConfigError

_BOX, _POINT = (0.25, 0.25, 0.75, 0.75), (0.25, 0.25)
_CLOSINGS = ("\n]\n```", "\n```", "]\n```", "\n]", "</point>", "</points>")
"""What models write behind a form that could end there: arrays and code fences of JSON, Molmo's elements."""


class Settling:
    """Finds the groups at the beginning of a growing text that no continuation changes.

    A continuation is what the codec itself would write from any place in a group of two regions on. Whether numbers
    without the marks of their family are regions shows only at the end of a text: they do not settle.

    `size`: the frame's (width, height) in pixels.
    """

    def __init__(self, codec: RegionCodec, size: tuple[int, int]) -> None:
        self.codec = codec
        self.size = size
        self._done = 0
        """Where the last group that has settled ends."""
        self._continuations = list(dict.fromkeys(_endings(codec, size)))

    def new_groups(self, text: str) -> list[Reading]:
        """The groups that have settled since the last call, in order; the text goes on where it ended then."""
        rest = text[self._done :]
        settled = self.codec.read(rest, self.size)
        if phrase_follows(self.codec):
            settled = list(takewhile(lambda reading: reading.span and ";" in rest[reading.span[1] :], settled))
        for more in list(self._continuations):
            if not settled:
                return []
            longer = self.codec.read(rest + more, self.size)
            same = [now for now, _ in takewhile(lambda pair: pair[0] == pair[1], zip(settled, longer, strict=False))]
            if len(same) < len(settled):  # it most likely changes the next text too
                self._continuations.remove(more)
                self._continuations.insert(0, more)
            settled = same
        if not (self._done or any(map(_tells, settled))):  # all may give way to numbers without marks
            return []
        start, spans = self._done, [reading.span for reading in settled]
        self._done += spans[-1][1] if spans[-1] else 0
        return [
            replace(reading, span=span and (start + span[0], start + span[1]))
            for reading, span in zip(settled, spans, strict=True)
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
