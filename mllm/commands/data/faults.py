"""What may be wrong with an item: the errors of datasets, and what only a look at the whole shows."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from mllm.commands.data.identity import NO_KEY, key64
from mllm.dataset.base import Dataset
from mllm.errors import ConfigError, DataError, MllmError, printable
from mllm.images import ImageRef
from mllm.metrics.point_in import decode_mask
from mllm.pipeline.splits import line_of, place_of
from mllm.types import Box, Item, Mask, Point

EDGE = 1.0
"""Pixels by which a box may stand out of its image: some tools count the last pixel in, some do not."""
LATE = 1.0
"""Seconds by which a time span may reach behind the end of its video: annotators round up."""
SMALLEST = 8
"""Pixels: on an image with a longer side than this, coordinates that are all at most 1 are fractions."""

SEEN = {
    "crash": "the `record` of your own dataset raised something other than a `DataError`",
    "setup": "what reads the image is not installed or not set up, or the cache cannot be used",
    "contract": "anything else that your own dataset refuses",
    "empty-answer": "an answer without a word",
    "unlearned": "no token is supervised: there is no answer, or `max_length` cuts all of it",
    "empty-box": "a box without area",
    "fractions": "coordinates from 0 to 1 where pixels are expected",
    "box-outside": "a box more than one pixel outside its image",
    "point-outside": "a point more than one pixel outside its image",
    "span-outside": "a time span more than one second behind the end of its video",
    "image-size": "the line's `width` and `height`, or those of a mask, differ from the image's",
    "turned-image": "they are those of the image before its EXIF orientation is applied, and so may be its boxes",
}
"""Kinds of faults beside `errors.KINDS`, which only this look at an item and its images shows."""
WARNINGS = {
    "cut-answer": "`max_length` cuts part of the answer",
    "duplicate-line": "the same line occurs earlier in the file",
    "duplicate-id": "the same `id` occurs earlier in the file",
    "region-words": "boxes or points in words, which the model would learn letter by letter",
}
"""Kinds that may be meant so: they are named and counted, and are no faults."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """`where: reason [kind]`, where being `file:line` and the reason beginning with the field."""

    where: str
    reason: str
    kind: str

    @property
    def warning(self) -> bool:
        return self.kind in WARNINGS

    def __str__(self) -> str:
        return printable(f"{self.where}: {self.reason} [{self.kind}]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Looked:
    """What was found at one index of a dataset; `line` and `name` are keys of its line, and of the `id` there."""

    where: str
    item: Item | None = None
    sized: bool = False
    """Whether the sizes of all its images could be read."""
    faults: tuple[Fault, ...] = ()
    line: int = NO_KEY
    name: int = NO_KEY


def fault_of(error: MllmError, where: str) -> Fault:
    """An error of ours as a fault, `where` unless it names a place itself."""
    kind = error.kind or ("setup" if isinstance(error, ConfigError) else "contract")
    return Fault(where=error.where or where, reason=error.reason, kind=kind)


def find_faults(dataset: Dataset, index: int, *, decode: bool = False) -> Looked:
    """Read an item and its images' headers (`decode`: their pixels too), and say all that is wrong with them."""
    where = place_of(dataset, index)
    try:
        item = dataset[index]
    except DataError as error:
        return Looked(where=where, faults=(fault_of(error, where),))
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        # what a `record` of a user's own dataset raises for a line that it does not expect
        reason = f"reading it raises {type(error).__name__}: {error}"
        return Looked(where=where, faults=(Fault(where=where, reason=reason, kind="crash"),))
    found = line_of(dataset, index)
    line = found[0] if found else {}
    where = where if found else item.key  # of a mixture only the item knows its line
    sizes: dict[int, tuple[int, int]] = {}
    reasons = [*_image_reasons(item, decode, sizes), *_reasons(item, line, sizes)]
    faults = [Fault(where=where, reason=reason, kind=kind) for kind, reason in reasons]
    return Looked(
        where=where,
        item=item,
        sized=len(sizes) == len(item.images),
        faults=tuple(faults),
        line=_key(line) if found else NO_KEY,
        name=_key(line["id"]) if "id" in line else NO_KEY,
    )


def _image_reasons(item: Item, decode: bool, sizes: dict[int, tuple[int, int]]) -> Iterator[tuple[str, str]]:
    """Of its images, whose sizes are noted."""
    for number, ref in enumerate(item.images):
        field = "image" if len(item.images) == 1 else f"images[{number}]"
        try:
            sizes[number] = ref.size
            broken = _broken(ref) if decode else None
        except (DataError, ConfigError) as error:
            broken = error
        if broken is not None:
            fault = fault_of(broken.inside(field), "")
            yield fault.kind, fault.reason


def _reasons(item: Item, line: Mapping[str, object], sizes: Mapping[int, tuple[int, int]]) -> Iterator[tuple[str, str]]:
    """Of all else, as far as the sizes of its images are known."""
    if len(item.images) == 1 and sizes:
        yield from _size_reasons(line, sizes[0])
    for number, box in enumerate(item.boxes):
        if box.image in sizes:
            yield from _box_reasons(f"target.boxes[{number}]", box, *sizes[box.image])
    for number, point in enumerate(item.points):
        if point.image in sizes:
            yield from _point_reasons(f"target.points[{number}]", point, *sizes[point.image])
    for number, span in enumerate(item.time_spans):
        if item.duration is not None and span.end > item.duration + LATE:
            expected = f"expected a time span inside the video of {item.duration:.6g} s"
            yield "span-outside", f"target.spans[{number}]: {expected}, found {_numbers((span.start, span.end))}"
    for number, mask in enumerate(item.truth.masks):
        yield from _mask_reasons(
            f"truth.masks[{number}]", mask, sizes[0] if len(item.images) == len(sizes) == 1 else None
        )
    for number, turn in enumerate(item.turns):
        if turn.role == "gpt" and not turn.text.strip():
            yield "empty-answer", f"conversations[{number}].value: expected an answer, found {turn.text!r}"


def _size_reasons(line: Mapping[str, object], size: tuple[int, int]) -> Iterator[tuple[str, str]]:
    said = line.get("width"), line.get("height")
    if None in said or said == size:
        return
    found = f"width, height: expected {size[0]} x {size[1]}, the image's, found {said[0]!r} x {said[1]!r}"
    if said == size[::-1]:
        yield (
            "turned-image",
            f"{found}: the size before its EXIF orientation is applied; its boxes may be measured so too",
        )
    else:
        yield "image-size", found


def _box_reasons(field: str, box: Box, width: int, height: int) -> Iterator[tuple[str, str]]:
    found = f"found {_numbers(box.xyxy)}"
    if box.x1 == box.x2 or box.y1 == box.y2:
        yield "empty-box", f"{field}: expected a box with an area, {found}"
    elif box.x1 >= 0 and box.y1 >= 0 and max(box.xyxy) <= 1 and max(width, height) > SMALLEST:
        yield "fractions", f"{field}: expected pixels of a {width} x {height} image, {found}: fractions of it?"
    elif box.x1 < -EDGE or box.y1 < -EDGE or box.x2 > width + EDGE or box.y2 > height + EDGE:
        yield "box-outside", f"{field}: expected a box inside the {width} x {height} image, {found}"


def _point_reasons(field: str, point: Point, width: int, height: int) -> Iterator[tuple[str, str]]:
    found = f"found {_numbers(point.xy)}"
    if 0 < point.x < 1 and 0 < point.y < 1 and max(width, height) > SMALLEST:
        yield "fractions", f"{field}: expected pixels of a {width} x {height} image, {found}: fractions of it?"
    elif not (-EDGE <= point.x <= width + EDGE and -EDGE <= point.y <= height + EDGE):
        yield "point-outside", f"{field}: expected a point inside the {width} x {height} image, {found}"


def _mask_reasons(field: str, mask: Mask, size: tuple[int, int] | None) -> Iterator[tuple[str, str]]:
    try:
        height, width = decode_mask(mask, "").shape
    except DataError as error:
        yield error.kind, f"{field}: expected {error.expected}, found {error.found}"
        return
    if size is not None and (width, height) != size:
        expected = f"expected the mask of a {size[0]} x {size[1]} image"
        yield "image-size", f"{field}: {expected}, found one of {width} x {height}"


def _numbers(values: Sequence[float]) -> str:
    return f"[{', '.join(f'{value:.6g}' for value in values if math.isfinite(value))}]"


@lru_cache(maxsize=1024)
def _broken(ref: ImageRef) -> DataError | None:
    """Why the pixels cannot be decoded; an image with many lines is decoded once by each process."""
    try:
        ref.open()
    except DataError as error:
        return error
    return None


def _key(value: object) -> int:
    return key64(json.dumps(value, sort_keys=True))
