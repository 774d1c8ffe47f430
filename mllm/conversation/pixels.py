"""A codec on one image: boxes and points in pixels of the original image, as text and back.

Training, evaluation and conversion go through it, so that they agree on what reaches out of an image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from mllm.answers import stated, steps_of
from mllm.conversation.codec_base import (
    Reading,
    RegionCodec,
    UnitBox,
    UnitPoint,
    clipped,
    read_answer,
    to_frame,
    visible,
)
from mllm.errors import DataError
from mllm.geometry import Placement
from mllm.types import Box, Failure, Form, Point, Prediction


@dataclass(frozen=True, slots=True, kw_only=True)
class PixelRegions:
    """What was read, in pixels of the original image."""

    boxes: tuple[Box, ...] = ()
    points: tuple[Point, ...] = ()
    failure: Failure | None = None
    """The first failure among the groups."""
    clipped: int = 0
    """Boxes that reached out of the image by more than the codec's own error, and were cut off at its edge."""
    spans: tuple[tuple[int, int], ...] = ()
    """Where the form of each box, then of each point, stands in the text; empty where the codec does not say it."""
    form: Form | None = None
    """With or without the marks of the codec's family; None where an answer has no region."""


class OtherImages(Protocol):
    """The other images of an item, where answers may name them; see `mllm.conversation.item_codec.ItemCodec`."""

    def on(self, image: int, /) -> PixelCodec: ...
    def place(
        self, text: str, readings: Sequence[Reading], before: Sequence[tuple[int, int]] = ()
    ) -> list[Reading]: ...


class PixelCodec:
    """Writes and reads regions of image number `image`, which lies on the model's canvas as `placement` says.

    `others`: where a text may say that a group lies on another image of the item.
    """

    def __init__(
        self, codec: RegionCodec, placement: Placement, *, image: int = 0, others: OtherImages | None = None
    ) -> None:
        self.codec = codec
        self.placement = placement
        self.frame = to_frame(placement, codec.frame)
        self.image = image
        self.others = others
        self._seen = visible(self.frame)

    def write_boxes(self, boxes: Sequence[Box]) -> str:
        """The text of a group; boxes are cut off at the edge of what the model sees.

        Raises:
            DataError: a box lies wholly outside.
            ConfigError: the codec has no form for boxes; `write_points` likewise.
        """
        return self.codec.write_boxes([self._unit_box(box) for box in boxes], self.frame.canvas)

    def write_points(self, points: Sequence[Point]) -> str:
        return self.codec.write_points([self._unit_point(point) for point in points], self.frame.canvas)

    def check(self, region: Box | Point) -> None:
        """Check that a region could be written.

        Raises:
            DataError: it lies wholly outside of what the model sees.
        """
        if isinstance(region, Box):
            self._unit_box(region)
        else:
            self._unit_point(region)

    def readings(self, text: str) -> list[Reading]:
        """The groups in a model's answer, with or without the marks of its family, as `read_group` takes them."""
        return self.placed(text, read_answer(self.codec, text, self.frame.canvas))

    def placed(self, text: str, readings: Sequence[Reading], before: Sequence[tuple[int, int]] = ()) -> list[Reading]:
        """Groups that the codec found in a text, each on the image that this says; `before` as in `OtherImages`."""
        return list(readings) if self.others is None else self.others.place(text, readings, before)

    def read_answer(self, text: str) -> PixelRegions:
        """All regions in a model's answer, with or without the marks of its family."""
        readings = self.readings(text)
        groups = [self.read_group(reading) for reading in readings]
        bare = any(reading.bare for reading in readings)
        spans = [
            reading.span
            for kind in ("boxes", "points")
            for reading, group in zip(readings, groups, strict=True)
            for _ in getattr(group, kind)
        ]
        return PixelRegions(
            boxes=tuple(box for group in groups for box in group.boxes),
            points=tuple(point for group in groups for point in group.points),
            failure=next((group.failure for group in groups if group.failure), None),
            clipped=sum(group.clipped for group in groups),
            spans=tuple(span for span in spans if span is not None) if None not in spans else (),
            form=None if not readings else "bare" if bare else "marked",
        )

    def read_into(self, prediction: Prediction) -> Prediction:
        """The prediction with the regions of its text, where that states its answer, and the size of their image."""
        answer = stated(prediction.text)
        read = self.read_answer(answer)
        start = prediction.text.rfind(answer)
        return replace(
            prediction,
            boxes=read.boxes,
            points=read.points,
            failure=read.failure,
            clipped=read.clipped,
            spans=tuple((start + first, start + last) for first, last in read.spans) if start >= 0 else (),
            image_size=self.frame.source,
            read_by=steps_of(prediction.text, "stated") + ((read.form,) if read.form else ()),
        )

    def read_group(self, reading: Reading, *, cut: bool = True) -> PixelRegions:
        """One group that the codec found; of what lies wholly outside the image nothing is left but a failure.

        `cut=False` leaves boxes that reach out of the image as they are, but for the codec's own error.
        """
        if reading.image not in (None, self.image) and self.others is not None:
            return self.others.on(reading.image).read_group(reading, cut=cut)
        boxes: list[Box] = []
        points: list[Point] = []
        failure = reading.failure
        reaching = 0
        error = self.codec.error(self.frame.canvas)
        units = (*reading.boxes, *((x, y, x, y) for x, y in reading.points))
        for unit, label in zip(units, reading.labels or [reading.label] * len(units), strict=True):
            inside = clipped(unit, self._seen, slack=(error, error))
            if inside is None:
                failure = failure or "out_of_range"
                continue
            reaches = any(abs(was - now) > error for was, now in zip(unit, inside, strict=True))
            seen = inside if cut or not reaches else unit
            (x1, y1), (x2, y2) = self.frame.from_unit(*seen[:2]), self.frame.from_unit(*seen[2:])
            if reading.points:
                points.append(Point(x=x1, y=y1, image=self.image))
            else:
                boxes.append(Box(x1=x1, y1=y1, x2=x2, y2=y2, image=self.image, label=label))
                reaching += reaches
        return PixelRegions(boxes=tuple(boxes), points=tuple(points), failure=failure, clipped=reaching)

    def out_of_frame(self, reading: Reading) -> Failure | None:
        """The failure of a group with a number outside the codec's range, by more than its error; else None."""
        error = self.codec.error(self.frame.canvas)
        values = (value for region in (*reading.boxes, *reading.points) for value in region)
        return None if all(-error <= value <= 1 + error for value in values) else "out_of_range"

    def _unit_box(self, box: Box) -> UnitBox:
        unit = (*self.frame.to_unit(box.x1, box.y1), *self.frame.to_unit(box.x2, box.y2))
        inside = clipped(unit, self._seen)
        if inside is None or any(unit[axis] < unit[axis + 2] and inside[axis] == inside[axis + 2] for axis in (0, 1)):
            raise _unseen("a box", box.xyxy)  # it is elsewhere, or touches what is seen from outside
        return inside

    def _unit_point(self, point: Point) -> UnitPoint:
        x, y = self.frame.to_unit(*point.xy)
        inside = clipped((x, y, x, y), self._seen)
        if inside is None:
            raise _unseen("a point", point.xy)
        return inside[:2]


def _unseen(what: str, numbers: Sequence[float]) -> DataError:
    return DataError(
        expected=f"{what} in what the model sees of its image",
        found=f"[{', '.join(f'{number:.10g}' for number in numbers)}]",
        kind="unseen-region",
    )
