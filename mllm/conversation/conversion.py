"""Regions in a text, from one coordinate convention to another: each in its own frame of the same picture."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from mllm.conversation.region import Reading, RegionCodec, UnitBox, clamped, framed, outside
from mllm.errors import ConfigError, DataError
from mllm.geometry import Placement


class ConversionError(DataError):
    """A text whose regions have no equal in the other convention."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Convention:
    """A codec, and where a picture of (width, height) pixels lies on the canvas that its models see."""

    name: str
    codec: RegionCodec
    placement: Callable[[tuple[int, int]], Placement]

    def frame(self, size: tuple[int, int]) -> Placement:
        """Original pixels of a picture of `size` -> the codec's frame."""
        return framed(self.placement(size), self.codec.frame)


def rewrite(
    text: str, size: Callable[[], tuple[int, int]], *, source: Convention, target: Convention
) -> tuple[str, int]:
    """The text with every group of regions in the target's form, and how many groups there were.

    `size` is called for the picture's (width, height), only where the text holds regions. A phrase that the source's
    form holds itself comes to stand before the target's, as plain text.

    Raises:
        ConversionError: a group cannot be read, or lies where the target's frame does not reach.
        ConfigError: the target has no form for boxes, or for points; the source does not say where its regions stand.
    """
    if not source.codec.read(text, (1, 1)):  # what counts as a region does not depend on the size
        return text, 0
    start, end = source.frame(size()), target.frame(size())
    readings = source.codec.read(text, start.canvas)
    bound = source.codec.error(start.canvas)
    # rounding in the source may have moved a region on the border out of the target's frame
    slack_x, slack_y = (
        bound * start.canvas[axis] / start.scale[axis] * end.scale[axis] / end.canvas[axis] + 1e-9 for axis in (0, 1)
    )
    moved = partial(_moved, start=start, end=end, slack=(slack_x, slack_y), name=target.name)
    pieces: list[str] = []
    done = 0
    for reading in readings:
        if reading.span is None:
            raise ConfigError(f"codec '{source.name}' does not say where its regions stand: its readings have no span")
        first, last = reading.span
        found = text[first:last]
        if reading.failure:
            raise ConversionError(
                f"{found[:80]!r}: {source.name} cannot read it: {reading.failure}", kind="unsupported"
            )
        pieces += [
            text[done:first],
            reading.label + " " if reading.label else "",
            _written(reading, moved, end, target),
        ]
        done = last
    return "".join(pieces) + text[done:], len(readings)


def _written(reading: Reading, moved: Callable[[UnitBox], UnitBox], end: Placement, target: Convention) -> str:
    if reading.boxes:
        return target.codec.write_boxes([moved(box) for box in reading.boxes], end.canvas)
    return target.codec.write_points([moved((*point, *point))[:2] for point in reading.points], end.canvas)


def _moved(box: UnitBox, *, start: Placement, end: Placement, slack: tuple[float, float], name: str) -> UnitBox:
    """The box in the other frame; a point is a box without extent."""
    unit = (*end.to_unit(*start.from_unit(box[0], box[1])), *end.to_unit(*start.from_unit(box[2], box[3])))
    if outside(unit, slack):
        kind, values = ("point", box[:2]) if box[:2] == box[2:] else ("box", box)
        reason = f"{kind} {_shown(values)} lies outside the frame of {name}"
        raise ConversionError(reason, kind="unseen-region")
    return clamped(unit)


def _shown(region: tuple[float, ...]) -> str:
    return "(" + ", ".join(f"{value:.3f}" for value in region) + ")"
