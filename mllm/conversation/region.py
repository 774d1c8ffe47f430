"""What every region codec offers: boxes and points as text a model can write, and read back from what it wrote.

Codecs live in `regions/`, one file each. They see unit coordinates (fractions of their frame) and never a picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from mllm.errors import ConfigError
from mllm.geometry import Placement
from mllm.types import Failure

UnitBox = tuple[float, float, float, float]
"""x1, y1, x2, y2 as fractions of the frame."""
UnitPoint = tuple[float, float]
Frame = Literal["canvas", "image"]
"""What a codec's fractions are of: the picture as the model sees it (padded, resized), or the original picture."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One group of regions found in a text, or why it could not be read."""

    boxes: tuple[UnitBox, ...] = ()
    points: tuple[UnitPoint, ...] = ()
    failure: Failure | None = None
    label: str | None = None
    """The phrase that the form itself holds (`<ref>phrase</ref>`, `"label": "phrase"`), where it holds one."""
    span: tuple[int, int] | None = None
    """Where the form stands in the text, label included; a codec that leaves it out cannot rewrite texts."""


class RegionCodec(Protocol):
    """Writes groups of regions as text and reads them from free text; `read(write(x))` is x within `error`."""

    @property
    def frame(self) -> Frame: ...

    @property
    def tokens(self) -> tuple[str, ...]:
        """Tokens that the vocabulary must hold."""
        ...

    def error(self, size: tuple[int, int]) -> float:
        """Largest distance between a coordinate and its reading, as a fraction of the frame's side along its axis.

        `size` is the frame's (width, height) in pixels; it counts only where a codec writes pixels.
        """
        ...

    def write_boxes(self, boxes: Sequence[UnitBox], size: tuple[int, int]) -> str:
        """The text of one group; coordinates are in [0, 1]; `size` is the frame's (width, height) in pixels.

        Raises:
            ConfigError: the convention has no form for boxes; `write_points` likewise.
        """
        ...

    def write_points(self, points: Sequence[UnitPoint], size: tuple[int, int]) -> str: ...

    def read(self, text: str, size: tuple[int, int]) -> list[Reading]:
        """Every group in the text, in order; an unreadable one is a Reading with a failure."""
        ...


def framed(placement: Placement, frame: Frame) -> Placement:
    """Original pixels to a codec's frame: the placement itself, or the picture on its own."""
    return placement if frame == "canvas" else Placement(source=placement.source, canvas=placement.source)


def clamped(box: UnitBox) -> UnitBox:
    """The part of the box that lies in the frame."""
    x1, y1, x2, y2 = (min(1.0, max(0.0, value)) for value in box)
    return x1, y1, x2, y2


def outside(box: UnitBox, slack: tuple[float, float] = (1e-9, 1e-9)) -> bool:
    """Whether no part of the box lies in the frame, nor within `slack` (x, y), which rounding may have moved it by."""
    x1, y1, x2, y2 = box
    return x2 < -slack[0] or y2 < -slack[1] or x1 > 1 + slack[0] or y1 > 1 + slack[1]


def no_form(codec: str, kind: str) -> ConfigError:
    """What a codec raises that is asked to write points, or boxes, which its family never writes."""
    return ConfigError(f"codec '{codec}' cannot write {kind}: the convention has no form for them", kind="unsupported")


def reading(rows: Sequence[Sequence[float]], *, points: bool = True) -> Reading:
    """Check one group of coordinate rows: all boxes (four numbers) or, where there is a form for `points`, two."""
    widths = {len(row) for row in rows}
    if widths != {4} and not (points and widths == {2}):
        return Reading(failure="wrong_count")
    if not all(0.0 <= value <= 1.0 for row in rows for value in row):
        return Reading(failure="out_of_range")
    if widths == {2}:
        return Reading(points=tuple((row[0], row[1]) for row in rows))
    boxes = tuple((row[0], row[1], row[2], row[3]) for row in rows)
    if any(x1 > x2 or y1 > y2 for x1, y1, x2, y2 in boxes):
        return Reading(failure="inverted")
    return Reading(boxes=boxes)
