"""Reads records of the public contract (docs/data.md) as items."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeGuard, TypeVar, cast

from mllm.errors import DataError
from mllm.fields import in_field, is_finite, show
from mllm.images import ImageRef, image_ref
from mllm.images.video import Clip, read_clip
from mllm.json_fields import text
from mllm.time_spans import TimeSpan
from mllm.types import IMAGE, VIDEO, Box, Category, GroundTruth, Groups, Item, Mask, Point, Turn, no_region

Known = TypeVar("Known", Box, Point, TimeSpan)

LARGEST_MASK = 1 << 28
"""Pixels of a mask, which takes a byte for each when it is decoded."""
REGION_FIELDS = tuple(f"{kind}{suffix}" for kind in ("boxes", "points") for suffix in ("", "_image", "_frame", "_time"))


def read_item(record: Mapping[str, object], *, key: str, folder: str | None = None) -> Item:
    """Validate a record of the public contract (docs/data.md).

    - `image`: a path under `folder`, a URL, a PIL image, or None; or `images`: a list of them.
    - or `video`: `frames` (a list of them) or a `folder` of these, `times` in seconds or `fps`, and `duration`;
      `<video>` in a question stands for the frames, see `mllm.images.video`.
    - `target`: `boxes` [[x1, y1, x2, y2]] and `points` [[x, y]] in pixels of the original image, and
      `boxes_image` / `points_image`, the image index of each (default 0); of a video `boxes_frame`, the index of
      its frame, or `boxes_time` in seconds; `labels`, the name of each box; `spans` [[start, end]] in seconds.
    - `conversations`: a list of `{from, value, boxes_seq, points_seq, spans_seq, image}`, see `Turn`.
    - `truth` (default: the content of the last answer): `boxes` / `points` / `spans`, indices into the target (an
      empty list: there is no such region), `texts`, and for a choice `options` (texts) or `candidates` (indices of
      boxes); `masks`, where a point may lie, in COCO's run-length encoding.
    - `group`: `{name: value}`, what scores are broken down by.
    - `expression`: the words for what is to be pointed at, without the rest of the question.
    - `system`: a system message in place of the template's own.

    Raises:
        DataError: names `key` and the field.
    """
    try:
        known = ("image", "images", "video", "target", "conversations", "truth", "group", "expression", "system")
        fields = _mapping(record, known)
        group = in_field("group", _group, fields.get("group"))
        images = _images(fields, folder)
        clip = None if fields.get("video") is None else in_field("video", read_clip, fields["video"], folder)
        boxes, points, spans = in_field("target", _target, fields.get("target"), clip)
        turns = in_field("conversations", _turns, fields.get("conversations"))
        if clip is not None:
            images, boxes, points, turns = _with_frames(clip, boxes, points, turns)
        said, system = fields.get("expression"), fields.get("system")
        item = Item(
            key=key,
            images=images,
            turns=turns,
            boxes=boxes,
            points=points,
            time_spans=spans,
            group=group,
            expression=None if said is None else in_field("expression", text, said),
            system=None if system is None else in_field("system", text, system),
        )
        truth = in_field("truth", _truth, fields.get("truth"), item)
    except DataError as error:
        raise error.at(key) from error.__cause__
    return replace(item, truth=truth)


def _images(record: Mapping[str, object], folder: str | None) -> tuple[ImageRef, ...]:
    given = [name for name in ("image", "images", "video") if record.get(name) is not None]
    if len(given) > 1:
        found = "both" if given == ["image", "images"] else " and ".join(map(repr, given))
        expected = "'image' or 'images'" if "video" not in given else "'image', 'images' or 'video'"
        raise DataError(expected=expected, found=found, kind="unknown-field")
    if record.get("image") is not None:
        return (in_field("image", image_ref, record["image"], folder),)
    sources = in_field("images", _list, record.get("images"))
    return tuple(in_field(f"images[{number}]", image_ref, source, folder) for number, source in enumerate(sources))


def _with_frames(
    clip: Clip, boxes: tuple[Box, ...], points: tuple[Point, ...], turns: tuple[Turn, ...]
) -> tuple[tuple[ImageRef, ...], tuple[Box, ...], tuple[Point, ...], tuple[Turn, ...]]:
    """The frames that are chosen of a video, in place of `<video>`, and the regions and turns by their numbers."""
    slots = sum(turn.text.count(VIDEO) for turn in turns if turn.role == "human")
    if slots != 1:
        raise DataError(field="conversations", expected=f"one {VIDEO}", found=str(slots), kind="image-count")
    named = [("target.boxes", box.image) for box in boxes] + [("target.points", point.image) for point in points]
    named += [("conversations.image", turn.image) for turn in turns if turn.image is not None]
    for field, frame in named:
        if not 0 <= frame < len(clip.frames):
            expected = f"a frame of the video, which has {len(clip.frames)}"
            raise DataError(field=field, expected=expected, found=f"frame {frame}", kind="region-index")
    chosen = clip.chosen({frame for _, frame in named})
    place = {frame: number for number, frame in enumerate(chosen)}
    return (
        tuple(map(clip.frame, chosen)),
        tuple(replace(box, image=place[box.image]) for box in boxes),
        tuple(replace(point, image=place[point.image]) for point in points),
        tuple(
            replace(
                turn,
                text=turn.text.replace(VIDEO, IMAGE * len(chosen)) if turn.role == "human" else turn.text,
                image=None if turn.image is None else place[turn.image],
            )
            for turn in turns
        ),
    )


def _target(target: object, clip: Clip | None) -> tuple[tuple[Box, ...], tuple[Point, ...], tuple[TimeSpan, ...]]:
    fields = _mapping(target, (*REGION_FIELDS, "labels", "spans"))
    boxes = tuple(in_field(f"boxes[{n}]", _box, *region) for n, region in enumerate(_regions(fields, "boxes", clip)))
    if fields.get("labels") is not None:
        labels = in_field("labels", _texts, fields["labels"])
        if len(labels) != len(boxes):
            expected = f"{len(boxes)} entries, one for each box"
            raise DataError(field="labels", expected=expected, found=str(len(labels)), kind="region-index")
        boxes = tuple(replace(box, label=label) for box, label in zip(boxes, labels, strict=True))
    spans = in_field("spans", _list, fields.get("spans"))
    return (
        boxes,
        tuple(in_field(f"points[{n}]", _point, *region) for n, region in enumerate(_regions(fields, "points", clip))),
        tuple(in_field(f"spans[{n}]", _span, span) for n, span in enumerate(spans)),
    )


def _regions(target: Mapping[str, object], field: str, clip: Clip | None) -> Iterable[tuple[object, int]]:
    """What each region holds, and the number of its image; of a video that of its frame, of all that are given."""
    regions = in_field(field, _list, target.get(field))
    names = [f"{field}_image", f"{field}_frame", f"{field}_time"]
    given = [name for name in names if target.get(name) is not None]
    if not given:
        return zip(regions, [0] * len(regions), strict=True)
    name = given[0]
    if len(given) > 1 or (clip is None and name != names[0]):
        expected = names[0] if clip is None else " or ".join(names)
        raise DataError(expected=expected, found=" and ".join(given), kind="unknown-field")
    if clip is not None and name.endswith("_time"):
        times = in_field(name, _list, target[name])
        images = [in_field(f"{name}[{n}]", _frame_at, clip, time) for n, time in enumerate(times)]
    else:
        images = in_field(name, _indices, target[name])
    if len(images) != len(regions):
        found = str(len(images))
        raise DataError(field=name, expected=f"{len(regions)} entries", found=found, kind="region-index")
    return zip(regions, images, strict=True)


def _frame_at(clip: Clip, time: object) -> int:
    if not is_finite(time):
        raise DataError(expected="seconds", found=show(time), kind="wrong-type")
    return clip.nearest(time)


def _span(values: object) -> TimeSpan:
    start, end = _coordinates(values, 2)
    return TimeSpan(start=start, end=end)


def _box(values: object, image: int) -> Box:
    x1, y1, x2, y2 = _coordinates(values, 4)
    return Box(x1=x1, y1=y1, x2=x2, y2=y2, image=image)


def _point(values: object, image: int) -> Point:
    x, y = _coordinates(values, 2)
    return Point(x=x, y=y, image=image)


def _coordinates(values: object, size: int) -> list[float]:
    numbers = _list(values)
    if len(numbers) != size or not all(map(_is_number, numbers)):
        raise DataError(expected=f"{size} numbers", found=show(values), kind="coordinates")
    return [float(value) for value in numbers]


def _is_number(value: object) -> TypeGuard[float]:
    """Whether a float can be made of it; one that is not finite is a number too."""
    return is_finite(value) or isinstance(value, float)


def _turns(turns: object) -> tuple[Turn, ...]:
    return tuple(in_field(f"[{number}]", _turn, turn) for number, turn in enumerate(_list(turns)))


def _turn(turn: object) -> Turn:
    fields = _mapping(turn, ("from", "value", "boxes_seq", "points_seq", "spans_seq", "image"))
    if fields.get("from") not in ("human", "gpt"):
        raise DataError(field="from", expected="'human' or 'gpt'", found=show(fields.get("from")), kind="role")
    return Turn(
        role=fields["from"],
        text=in_field("value", text, fields.get("value")),
        boxes_seq=in_field("boxes_seq", _groups, fields.get("boxes_seq")),
        points_seq=in_field("points_seq", _groups, fields.get("points_seq")),
        spans_seq=in_field("spans_seq", _groups, fields.get("spans_seq")),
        image=in_field("image", _image_number, fields.get("image")),
    )


def _image_number(value: object) -> int | None:
    if value is not None and type(value) is not int:
        raise DataError(expected="the number of an image", found=show(value), kind="wrong-type")
    return value


def _groups(groups: object) -> Groups:
    return tuple(tuple(in_field(f"[{number}]", _indices, group)) for number, group in enumerate(_list(groups)))


def _truth(truth: object, item: Item) -> GroundTruth:
    if truth is None:
        return answer_truth(item)
    fields = _mapping(truth, ("boxes", "points", "spans", "texts", "options", "candidates", "masks"))
    boxes = in_field("boxes", _picked, fields.get("boxes"), item.boxes)
    points = in_field("points", _picked, fields.get("points"), item.points)
    spans = in_field("spans", _picked, fields.get("spans"), item.time_spans)
    asked = any(fields.get(name) is not None for name in ("boxes", "points", "spans"))
    masks = in_field("masks", _list, fields.get("masks"))
    return GroundTruth(
        boxes=boxes,
        points=points,
        time_spans=spans,
        no_target=asked and not (boxes or points or spans),
        texts=in_field("texts", _texts, fields.get("texts")),
        options=in_field("options", _texts, fields.get("options")),
        candidates=in_field("candidates", _picked, fields.get("candidates"), item.boxes),
        masks=tuple(in_field(f"masks[{number}]", mask_of, mask) for number, mask in enumerate(masks)),
    )


def answer_truth(item: Item) -> GroundTruth:
    """What the last answer of an item holds: its regions, or that there is none, and its text."""
    last = item.turns[-1]
    if last.role != "gpt":
        return GroundTruth()
    boxes = tuple(item.boxes[index] for group in last.boxes_seq for index in group)
    points = tuple(item.points[index] for group in last.points_seq for index in group)
    spans = tuple(item.time_spans[index] for group in last.spans_seq for index in group)
    asked = bool(last.boxes_seq or last.points_seq or last.spans_seq)
    nothing = asked and not (boxes or points or spans)
    return GroundTruth(boxes=boxes, points=points, time_spans=spans, no_target=nothing, texts=(last.text,))


def mask_of(value: object) -> Mask:
    """A mask in COCO's run-length encoding, whose runs are not decoded yet.

    Raises:
        DataError: names the field inside it.
    """
    fields = _mapping(value, ("size", "counts"))
    size, counts = (in_field(name, _numbers_or_text, fields.get(name)) for name in ("size", "counts"))
    if len(size) != 2 or isinstance(size, str) or min(size) < 1:
        raise DataError(field="size", expected="[height, width]", found=show(fields["size"]), kind="coordinates")
    if size[0] * size[1] > LARGEST_MASK:
        found = show(fields["size"])
        raise DataError(field="size", expected=f"at most {LARGEST_MASK:,} pixels", found=found, kind="coordinates")
    if not isinstance(counts, str) and min(counts, default=0) < 0:
        raise DataError(field="counts", expected="lengths of runs", found=show(fields["counts"]), kind="coordinates")
    return fields


def _numbers_or_text(value: object) -> Sequence[int] | str:
    if isinstance(value, str) and value:
        return value
    numbers = _indices(value)
    if not numbers:
        expected = "whole numbers, as in COCO's run-length encoding"
        raise DataError(expected=expected, found=show(value), kind="wrong-type")
    return numbers


def _group(value: object) -> Mapping[str, Category]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise DataError(expected="a dict of names and values", found=show(value), kind="wrong-type")
    group = cast("Mapping[object, object]", value)
    for name, category in group.items():
        if not isinstance(name, str) or not (isinstance(category, str | bool) or is_finite(category)):
            found = f"{name!r}: {show(category)}" if isinstance(name, str) else f"the name {show(name)}"
            raise DataError(expected="a text, number or boolean for each name", found=found, kind="wrong-type")
    return cast("Mapping[str, Category]", value)


def _texts(values: object) -> tuple[str, ...]:
    return tuple(in_field(f"[{number}]", text, value) for number, value in enumerate(_list(values)))


def _picked(indices: object, regions: tuple[Known, ...]) -> tuple[Known, ...]:
    picked = _indices(indices)
    for index in picked:
        if not 0 <= index < len(regions):
            raise no_region(index, len(regions))
    return tuple(regions[index] for index in picked)


def _indices(value: object) -> Sequence[int]:
    indices = _list(value)
    if not all(type(index) is int for index in indices):
        raise DataError(expected="a list of indices", found=show(value), kind="wrong-type")
    return indices


def _list(value: object) -> Sequence[Any]:
    if value is None:
        return ()
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise DataError(expected="a list", found=show(value), kind="wrong-type")
    return cast("Sequence[Any]", value)


def _mapping(value: object, known: Sequence[str]) -> Mapping[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise DataError(expected="a dict", found=show(value), kind="wrong-type")
    fields = cast("Mapping[str, Any]", value)
    for name in fields:
        if name not in known:
            raise DataError(expected=f"one of {', '.join(known)}", found=f"{name!r:.80}", kind="unknown-field")
    return fields
