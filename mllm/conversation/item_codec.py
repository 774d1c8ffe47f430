"""A codec on all images of an item: which image a group of regions is on is said before it, and read from there.

    Picture 1: {"bbox_2d": [10, 20, 30, 40]}; Picture 2: {"bbox_2d": [50, 60, 70, 80]}

The prompt calls the images by the same names. `PixelCodec` is the same for a single image.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise
from typing import cast

from mllm.conversation.codec_base import Reading, RegionCodec, image_names, read_answer
from mllm.conversation.pixels import PixelCodec
from mllm.conversation.rendering import Write
from mllm.conversation.time_form import time_form
from mllm.errors import DataError
from mllm.fields import in_field
from mllm.images import ImageRef, VideoFrame
from mllm.types import BOXES, SPANS, Box, Item, Point

WriteOne = Callable[[int, str, Sequence[Box | Point]], str]
"""The text of regions on one image: of its number, the placeholder that they stand for, and themselves."""
NUMBERED = re.compile(r"\b(?:picture|image|img|photo|frame)\s*[-_#]?\s*(\d{1,9})\b", re.IGNORECASE)
"""How answers name an image, in any family's form."""
TIMED = re.compile(r"<?\b(\d{1,6}(?:\.\d+)?)\s*(?:s|secs?|seconds?)\b>?", re.IGNORECASE)
"""How they name a frame of a video."""
BETWEEN = re.compile(r"[\s:>)\]]*")
"""What may stand between a name and the group that it is written before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """A place in a text that names an image of the item; `image` None: one that there is not."""

    start: int
    end: int
    image: int | None


class ItemCodec:
    """Writes the groups of an item's regions, and reads an answer's.

    Args:
        on: the codec on the image of a number, which raises where the image cannot be read.
        numbers: whether several images are called by number.
    """

    def __init__(self, codec: RegionCodec, item: Item, on: Callable[[int], PixelCodec], *, numbers: bool) -> None:
        self.codec = codec
        self.item = item
        self.on = cache(on)
        self.leads = _texts_before_images(codec, item.images, numbers=numbers and len(item.images) > 1)
        """What stands before each image in the prompt; empty where images have no names."""
        self.names = self.leads if len(item.images) > 1 else ()
        """What stands before regions on each image; empty where there is no choice."""

    def write(self, placeholder: str, group: Sequence[int]) -> str:
        """The text of the group that a placeholder stands for; its regions are given by number.

        Raises:
            DataError: a region lies outside of what the model sees, or a group on several images, which have no names;
                names the region or the group.
            ConfigError: the codec has no form for it.
        """
        if placeholder == SPANS:
            return self._spans(group)
        field, regions = f"target.{placeholder[1:-1]}", self._regions(placeholder)
        for index in group:
            in_field(f"{field}[{index}]", self.on(regions[index].image).check, regions[index])
        return in_field(field, self._group, placeholder, group, self._write)

    def sample(self, write: WriteOne) -> Write:
        """The same, where `write` gives the text of regions on one image, and no image is looked at."""

        def written(placeholder: str, group: Sequence[int]) -> str:
            if placeholder == SPANS:
                return self._spans(group)
            return self._group(placeholder, group, write)

        return written

    def of_answer(self, image: int | None = None) -> PixelCodec | None:
        """What reads an answer about the image of the last question, or this `image`; None where the item has none.

        Where images have names, a group lies on the one that is named last before it.
        """
        if not self.item.images:
            return None
        asked = self.on(self.item.answer_image if image is None else image)
        return PixelCodec(self.codec, asked.placement, image=asked.image, others=self if self.names else None)

    def place(self, text: str, readings: Sequence[Reading], before: Sequence[tuple[int, int]] = ()) -> list[Reading]:
        """Groups that were found in a text, each on the image that is named before it.

        `before`: where forms of other groups stand, in which nothing names an image.
        """
        forms = [*before, *(reading.span for reading in readings if reading.span is not None)]
        named = [one for one in self._named(text) if not any(start <= one.start < end for start, end in forms)]
        return [self._placed(text, reading, named) for reading in readings]

    def _placed(self, text: str, reading: Reading, named: Sequence[Named]) -> Reading:
        if reading.span is None:
            return reading
        start, end = reading.span
        last = next((one for one in reversed(named) if one.end <= start), None)
        if last is None:
            return reading
        lead = start - last.start if BETWEEN.fullmatch(text, last.end, start) else 0
        if last.image is None:
            return replace(reading, boxes=(), points=(), labels=(), failure="out_of_range", lead=lead)
        canvas = self.on(last.image).frame.canvas
        again = read_answer(self.codec, text[start:end], canvas)
        if len(again) == 1:  # it was read as if it lay on another image, whose size may differ
            read = again[0]
            reading = replace(reading, boxes=read.boxes, points=read.points, failure=read.failure)
        return replace(reading, image=last.image, lead=lead)

    def _named(self, text: str) -> list[Named]:
        named: list[Named] = []
        for match in NUMBERED.finditer(text):
            image = int(match[1]) - 1
            known = 0 <= image < len(self.item.images)
            named.append(Named(start=match.start(), end=match.end(), image=image if known else None))
        images = reversed([*enumerate(self.item.images)])
        times = {ref.time: number for number, ref in images if isinstance(ref, VideoFrame)}
        for match in TIMED.finditer(text) if times else ():
            image = _frame_at(float(match[1]), times)
            named.append(Named(start=match.start(), end=match.end(), image=image))
        return sorted(named, key=lambda one: one.start)

    def _group(self, placeholder: str, group: Sequence[int], write: WriteOne) -> str:
        """Neighbours on one image are written together, behind its name."""
        known = self._regions(placeholder)
        regions = [known[index] for index in group]
        runs: list[list[Box | Point]] = []
        for region in regions:
            if runs and runs[-1][0].image == region.image:
                runs[-1].append(region)
            else:
                runs.append([region])
        if len(runs) > 1 and not self.names:
            raise DataError(
                expected="regions on one image",
                found=f"some on each of the images {', '.join(map(str, sorted({region.image for region in regions})))}",
                message="give each image a group of its own, or set model_args.image_numbers=True",
                kind="image-number",
            )
        names = self.names or ("",) * len(self.item.images)
        return "; ".join(f"{names[run[0].image]}{write(run[0].image, placeholder, run)}" for run in runs)

    def _spans(self, group: Sequence[int]) -> str:
        return time_form(self.codec).write([self.item.time_spans[index] for index in group])

    def _regions(self, placeholder: str) -> Sequence[Box | Point]:
        return self.item.boxes if placeholder == BOXES else self.item.points

    def _write(self, image: int, placeholder: str, regions: Sequence[Box | Point]) -> str:
        codec = self.on(image)
        if placeholder == BOXES:
            return codec.write_boxes(cast("Sequence[Box]", regions))
        return codec.write_points(cast("Sequence[Point]", regions))


def _texts_before_images(codec: RegionCodec, images: Sequence[ImageRef], *, numbers: bool) -> tuple[str, ...]:
    """What stands before each image: of a frame its time, to as many decimals as tell the frames apart."""
    times = [ref.time for ref in images if isinstance(ref, VideoFrame)]
    if not times and not numbers:
        return ()
    names = image_names(codec)
    digits = next((count for count in (1, 2) if len({f"{time:.{count}f}" for time in times}) == len(times)), 3)

    def lead(number: int, ref: ImageRef) -> str:
        if isinstance(ref, VideoFrame):
            return names.time.format(f"{ref.time:.{digits}f}")
        return names.number.format(number) if numbers else ""

    return tuple(lead(number, ref) for number, ref in enumerate(images, start=1))


def _frame_at(time: float, frames: Mapping[float, int]) -> int | None:
    """The number of the frame nearest to a time; None beyond the first or the last by more than they are apart."""
    times = sorted(frames)
    apart = max((after - before for before, after in pairwise(times)), default=0.0)
    if not times[0] - apart <= time <= times[-1] + apart:
        return None
    return frames[min(times, key=lambda each: abs(each - time))]
