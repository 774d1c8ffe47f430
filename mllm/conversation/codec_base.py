"""The interface of region codecs: boxes and points as text that a model can write, and back.

Codecs are in `codecs/`, one file each. They see unit coordinates (fractions of their frame) and never an image.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol

from mllm.errors import ConfigError
from mllm.geometry import Placement
from mllm.types import Failure

_NUMBER = r"[-+\u2212]?(?:\d{1,3}(?:,\d{3}){1,2}|\d[\d.]*(?:e[-+]?\d+)?|\.\d+|nan|inf)(?:\s?(?:%|px))?"
_GAP = r"\s{0,9}[,;\uff0c]\s{0,9}|\s{1,9}"
_FOUR = re.compile(rf"[\[\uff3b]\s{{0,9}}{_NUMBER}(?:(?:{_GAP}){_NUMBER}){{3}}\s{{0,9}}[\]\uff3d]", re.IGNORECASE)
UnitBox = tuple[float, float, float, float]
"""x1, y1, x2, y2 as fractions of the frame."""
UnitPoint = tuple[float, float]
Frame = Literal["canvas", "image"]
"""What a codec's fractions refer to: the image as the model sees it (padded, resized), or the original image."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One group of regions found in a text: those that could be read, and why another one could not be.

    A box overlaps the frame, but may reach out of it: what is seen of it is for the reader to clip, see `clipped`.
    """

    boxes: tuple[UnitBox, ...] = ()
    points: tuple[UnitPoint, ...] = ()
    failure: Failure | None = None
    image: int | None = None
    """The number of the image that the text says it lies on; None: that of the question, see `ItemCodec`."""
    lead: int = 0
    """How many characters in front of `span` say so."""
    label: str | None = None
    """The phrase inside the form (`<ref>phrase</ref>`, `"label": "phrase"`), if there is one."""
    labels: tuple[str | None, ...] = ()
    """Of each region its own, where the form has one for each; empty: all have `label`."""
    span: tuple[int, int] | None = None
    """The position of the form in the text, label included; a codec that leaves it out cannot rewrite texts."""
    bare: bool = field(default=False, compare=False)
    """Whether it lacks the marks of its family, see `BareForm`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageNames:
    """How a family calls one of several images, in the prompt before it and in answers before its regions.

    Attributes:
        number: holds `{}`, the number of the image, from 1 on.
        time: of a frame of a video; holds `{}`, its seconds.
    """

    number: str = "image {}: "
    time: str = "{} s: "


class BareForm(Protocol):
    """Reads regions without the marks of their family."""

    def read(self, text: str, size: tuple[int, int]) -> list[Reading]: ...


class RegionCodec(Protocol):
    """Writes groups of regions as text and reads them from free text; `read(write(x))` is x within `error`.

    Optional members:

    - `none: str`: the text of a group without regions, default `none`; `read` must find no region in it;
    - `bare: BareForm`: reads an answer in which `read` finds nothing;
    - `phrase: tuple[str, str]`: the marks around phrases, as in `<ref>the dog</ref>`;
    - `phrase_follows: bool`: a phrase stands behind its regions, up to the next `;`;
    - `image_names: ImageNames`: what its family calls images, where there are several, and frames of videos;
    - `time_form: TimeForm`: how it writes time spans (`mllm.conversation.time_form`).
    """

    @property
    def frame(self) -> Frame: ...

    @property
    def tokens(self) -> tuple[str, ...]:
        """Tokens that the vocabulary must contain."""
        ...

    def error(self, size: tuple[int, int]) -> float:
        """Largest distance between a coordinate and its reading, as a fraction of the frame's side along its axis.

        `size` is the frame's (width, height) in pixels; it matters only if the codec writes pixels.
        """
        ...

    def write_boxes(self, boxes: Sequence[UnitBox], size: tuple[int, int]) -> str:
        """Write one group; coordinates are in [0, 1]; `size` is the frame's (width, height) in pixels.

        Raises:
            ConfigError: the convention has no form for boxes; `write_points` likewise.
        """
        ...

    def write_points(self, points: Sequence[UnitPoint], size: tuple[int, int]) -> str: ...

    def read(self, text: str, size: tuple[int, int]) -> list[Reading]:
        """Find all groups in the text, in order; an unreadable one is a Reading with a failure."""
        ...


def to_frame(placement: Placement, frame: Frame) -> Placement:
    """Original pixels to a codec's frame: the placement itself, or the image on its own."""
    return placement if frame == "canvas" else Placement(source=placement.source, canvas=placement.source)


def visible(frame: Placement) -> UnitBox:
    """The part of a frame that shows its image, in fractions of the frame: all of it, but for padding."""
    corners = frame.to_unit(0, 0), frame.to_unit(*frame.source)
    (x1, x2), (y1, y2) = (sorted(min(1.0, max(0.0, corner[axis])) for corner in corners) for axis in (0, 1))
    return x1, y1, x2, y2


def clipped(
    box: UnitBox, to: UnitBox = (0.0, 0.0, 1.0, 1.0), slack: tuple[float, float] = (1e-9, 1e-9)
) -> UnitBox | None:
    """The part of a box that lies in `to`; None where no part does, nor within `slack` (x, y) of it.

    The one rule of training and evaluation: what reaches out of the image is cut off, what lies outside is an error.
    """
    for axis in (0, 1):
        if box[axis + 2] < to[axis] - slack[axis] or box[axis] > to[axis + 2] + slack[axis]:
            return None
    x1, y1, x2, y2 = (min(to[place % 2 + 2], max(to[place % 2], value)) for place, value in enumerate(box))
    return x1, y1, x2, y2


def none_text(codec: RegionCodec) -> str:
    """How a codec writes that there is no region."""
    return getattr(codec, "none", "none")


def phrase_marks(codec: RegionCodec) -> tuple[str, str] | None:
    """What stands around the phrases that a codec's family points at; None where nothing does."""
    return getattr(codec, "phrase", None)


def read_answer(codec: RegionCodec, text: str, size: tuple[int, int]) -> list[Reading]:
    """The groups of regions in a model's answer, which may leave out the marks of its family.

    Four numbers in brackets that nothing reads, such as `[100 100 500 400]`, are malformed: an answer with a region.
    """
    found = _read_answer(codec, text, size)
    box = None if found else _FOUR.search(text)
    return found if box is None else [Reading(failure="malformed", span=box.span(), bare=True)]


def _read_answer(codec: RegionCodec, text: str, size: tuple[int, int]) -> list[Reading]:
    marked = codec.read(text, size)
    bare: BareForm | None = getattr(codec, "bare", None)
    if bare is None or any(reading.failure != "malformed" or reading.boxes or reading.points for reading in marked):
        return marked
    unmarked = [replace(reading, bare=True) for reading in bare.read(text, size)]
    if not marked:
        return unmarked
    # marks that are not closed, or of another family around the numbers
    whole = unmarked and all(reading.boxes and reading.failure is None for reading in unmarked)
    return unmarked if whole else marked


def phrase_follows(codec: RegionCodec) -> bool:
    """Whether the phrase that regions are about stands behind them as plain text; of other families before them."""
    return getattr(codec, "phrase_follows", False)


def image_names(codec: RegionCodec) -> ImageNames:
    """What a codec's family calls one of several images."""
    return getattr(codec, "image_names", ImageNames())


def no_form(codec: str, kind: str) -> ConfigError:
    """What a codec raises that is asked to write points, or boxes, which its family never writes."""
    return ConfigError(f"codec '{codec}' cannot write {kind}: the convention has no form for them", kind="unsupported")


def check_rows(rows: Sequence[Sequence[float]], *, points: bool = True) -> Reading:
    """Check one group of coordinate rows: all boxes (four numbers) or, where there is a form for `points`, two."""
    return join_readings([_region(row, points) for row in rows])


def join_readings(readings: Sequence[Reading]) -> Reading:
    """One group of what was read of its regions, which are all boxes or all points, and the first failure."""
    boxes = tuple(box for each in readings for box in each.boxes)
    points = tuple(point for each in readings for point in each.points)
    if not readings or (boxes and points):
        return Reading(failure="wrong_count")
    labels = tuple(label for each in readings for label in each.labels if each.boxes or each.points)
    failure: Failure | None = next((each.failure for each in readings if each.failure), None)
    return Reading(boxes=boxes, points=points, failure=failure, labels=labels)


def _region(row: Sequence[float], points: bool) -> Reading:
    if len(row) != 4 and not (points and len(row) == 2):
        return Reading(failure="wrong_count")
    if not all(map(math.isfinite, row)):
        return Reading(failure="out_of_range")
    x1, y1, x2, y2 = row[0], row[1], row[-2], row[-1]  # a point is a box without extent
    if clipped((min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2))) is None:
        return Reading(failure="out_of_range")
    if x1 > x2 or y1 > y2:
        return Reading(failure="inverted")
    return Reading(boxes=((x1, y1, x2, y2),)) if len(row) == 4 else Reading(points=((x1, y1),))
