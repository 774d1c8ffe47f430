"""The seams of the pipeline: what each stage takes and returns.

    annotation line -> Item -> Example -> Batch -> token ids -> Prediction -> scores

All are frozen; a stage returns a new one instead of changing its input.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, TypedDict, TypeGuard, TypeVar, cast

from mllm.errors import DataError
from mllm.images import ImageRef, image_ref

if TYPE_CHECKING:
    from torch import Tensor

Region = TypeVar("Region", "Box", "Point")
Role = Literal["human", "gpt"]
Groups = tuple[tuple[int, ...], ...]
Failure = Literal["none", "malformed", "out_of_range", "wrong_count", "inverted"]
"""Why no box could be read: none in the text, unreadable numbers, outside the frame, not as many as asked, x1 > x2."""

IMAGE, BOXES, POINTS = "<image>", "<boxes>", "<points>"


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """A box in pixels of the original picture, corners x1 <= x2, y1 <= y2, on picture number `image` of its item."""

    x1: float
    y1: float
    x2: float
    y2: float
    image: int = 0

    def __post_init__(self) -> None:
        if not all(map(math.isfinite, self.xyxy)):
            raise DataError(f"expected four finite numbers, found {_numbers(self.xyxy)}")
        if self.x1 > self.x2 or self.y1 > self.y2:
            raise DataError(f"expected x1 <= x2 and y1 <= y2 (xyxy, not xywh), found {_numbers(self.xyxy)}")

    @property
    def xyxy(self) -> tuple[float, float, float, float]:
        return self.x1, self.y1, self.x2, self.y2


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """A point in pixels of the original picture number `image` of its item."""

    x: float
    y: float
    image: int = 0

    def __post_init__(self) -> None:
        if not all(map(math.isfinite, self.xy)):
            raise DataError(f"expected two finite numbers, found {_numbers(self.xy)}")

    @property
    def xy(self) -> tuple[float, float]:
        return self.x, self.y


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One utterance. The k-th `<boxes>` of `text` stands for the boxes with indices `boxes_seq[k]`; likewise points."""

    role: Role
    text: str
    boxes_seq: Groups = ()
    points_seq: Groups = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    """What a metric compares an answer with; never tokenised. Boxes and points in original pixels."""

    boxes: tuple[Box, ...] = ()
    points: tuple[Point, ...] = ()
    texts: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    """The answers that were offered, in the order of the question; empty where the answer was free."""
    candidates: tuple[Box, ...] = ()
    """The regions that were offered, the right one first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One annotated conversation about zero or more pictures, which are not opened yet.

    Turns alternate, human first. Where the last one is `gpt`, it is the answer that evaluation asks for.
    """

    key: str
    images: tuple[ImageRef, ...] = ()
    turns: tuple[Turn, ...]
    boxes: tuple[Box, ...] = ()
    points: tuple[Point, ...] = ()
    truth: Truth = Truth()
    filling: int = 0
    """How many rounds at the end only fill the row: those that `max_length` has no room for are left out."""

    def __post_init__(self) -> None:
        if not self.turns:
            raise DataError(f"{self.key}: conversations: expected at least one turn, found none")
        slots = 0
        for number, turn in enumerate(self.turns):
            where = f"{self.key}: conversations[{number}]"
            expected = "human" if number % 2 == 0 else "gpt"
            if turn.role != expected:
                raise DataError(f"{where}.from: expected '{expected}' (turns alternate), found '{turn.role}'")
            _check_groups(where, turn.text, BOXES, "boxes_seq", turn.boxes_seq, len(self.boxes))
            _check_groups(where, turn.text, POINTS, "points_seq", turn.points_seq, len(self.points))
            if turn.role == "gpt" and IMAGE in turn.text:
                raise DataError(f"{where}.value: expected {IMAGE} in human turns only, found it in an answer")
            slots += turn.text.count(IMAGE)
        if slots != len(self.images):
            raise DataError(
                f"{self.key}: conversations: expected {len(self.images)} {IMAGE}, one for each picture, found {slots}"
            )
        for field, regions in (("boxes", self.boxes), ("points", self.points)):
            for number, region in enumerate(regions):
                if not 0 <= region.image < len(self.images):
                    raise DataError(
                        f"{self.key}: target.{field}[{number}]: expected it on a picture of the record, which has "
                        f"{len(self.images)}, found it on picture {region.image}"
                    )

    @property
    def prompt(self) -> tuple[Turn, ...]:
        """The turns before the answer."""
        return self.turns[:-1] if self.turns[-1].role == "gpt" else self.turns

    def filled(self, rounds: int) -> Item:
        """With so many rounds of its filling; the pictures and regions of the others are left out with them."""
        turns = self.turns[: len(self.turns) - 2 * (self.filling - rounds)]
        pictures = sum(turn.text.count(IMAGE) for turn in turns)
        return replace(
            self,
            turns=turns,
            images=self.images[:pictures],
            boxes=tuple(box for box in self.boxes if box.image < pictures),
            points=tuple(point for point in self.points if point.image < pictures),
            filling=rounds,
        )

    @classmethod
    def from_dict(cls, record: Mapping[str, Any], *, key: str, folder: str | None = None) -> Item:
        """Validate the public plain-dict contract.

        `image` (a path under `folder`, a URL, a PIL image, or None) or `images` (a list of them); `target` with `boxes`
        [[x1, y1, x2, y2]] and `points` [[x, y]] in pixels of the original picture, and `boxes_image` / `points_image`
        (the picture of each, default the first); `conversations` of `{from, value, boxes_seq, points_seq}`; `truth`
        with `boxes` / `points` (indices into the target) and `texts`, by default what the last answer holds; where a
        choice was asked for, `options` (texts) or `candidates` (indices into the boxes) say among what.

        Raises:
            DataError: names `key` and the field.
        """
        record = _mapping(key, record, ("image", "images", "target", "conversations", "truth"))
        boxes, points = _target(key, record.get("target"))
        raw_turns = _list(f"{key}: conversations", record.get("conversations"))
        turns = tuple(_turn(f"{key}: conversations[{n}]", turn) for n, turn in enumerate(raw_turns))
        item = cls(key=key, images=_images(key, record, folder), turns=turns, boxes=boxes, points=points)
        return replace(item, truth=_truth(item, record.get("truth")))


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """An item as a model reads it."""

    key: str
    index: int
    """Position of the item in its dataset: predictions are joined to the ground truth by it."""
    input_ids: Tensor
    """int64 [T]"""
    labels: Tensor | None
    """int64 [T], -100 where unsupervised; None for a prompt that is to be continued."""
    images: tuple[ImageRef, ...]
    """The picture of each slot, in the order of the text."""
    pixels: tuple[Mapping[str, Tensor], ...]
    """The model's arguments for the picture of each slot, see `View`."""
    pictures_end: int = 0
    """Tokens up to its last picture."""
    cut_tokens: int = 0
    """Answer tokens that `max_length` cut off."""
    skipped: tuple[str, ...] = ()
    """Why the items that were due in its place are left out, see `data_args.images.on_error`."""


class Batch(TypedDict, total=False):
    """Examples side by side: B rows of T tokens, M distinct pictures, S picture slots. A plain dict for the Trainer."""

    input_ids: Tensor  # int64 [B, T]
    attention_mask: Tensor  # int64 [B, T], absent where there are segments
    position_ids: Tensor  # int64 [B, T], only with segments
    segment_ids: Tensor  # int64 [B, T], where examples share a row: the stretch that a token belongs to, -1 padding
    prefix_ids: Tensor  # int64 [B, T], the stretch that it sees as well, -1 none; only with segments
    labels: Tensor  # int64 [B, T], absent in prompts
    branch_ids: Tensor  # int64 [N, S], of N prompts what follows the B beginnings that `input_ids` then holds
    branch_mask: Tensor  # int64 [N, S]
    branch_prefix: Tensor  # int64 [N], the beginning of each
    cut_answers: Tensor  # bool [examples], whether `max_length` cut supervised tokens; absent in prompts
    pixels: Tensor  # each distinct picture once, of a `SquareView` float32 [M, C, H, W]; absent in text-only batches
    image_sizes: Tensor  # int64 [M, 2], (width, height) of each picture before it was cut, only of a `TiledView`
    frames: Tensor  # int64 [M], where models take videos: how many rows of `pixels` each medium has
    image_index: Tensor  # int64 [S], the picture that fills each slot, slots in reading order
    index: Tensor  # int64 [examples], as many as B unless examples share rows
    skipped: list[str]  # why items were replaced by others; absent where none was


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """An answer read back, beside the truth of the item at the same `index`."""

    key: str
    index: int
    text: str
    boxes: tuple[Box, ...] = ()
    """Every readable box of the answer, in original pixels."""
    points: tuple[Point, ...] = ()
    failure: Failure | None = None
    """Why the boxes asked for could not be read; None when they could, or when none were asked for."""
    truth: Truth = Truth()


def _kind(value: object) -> str:
    return "nothing" if value is None else f"{type(value).__name__} {str(value)[:60]!r}"


def _numbers(values: Sequence[float]) -> str:
    return f"[{', '.join(f'{value:.10g}' for value in values)}]"


def _no_region(index: int, known: int) -> str:
    expected = f"an index from 0 to {known - 1}" if known else "no index"
    return f"expected {expected} (the target holds {known}), found {index}"


def _check_groups(where: str, text: str, placeholder: str, field: str, groups: Groups, known: int) -> None:
    if text.count(placeholder) != len(groups):
        raise DataError(
            f"{where}.{field}: expected {text.count(placeholder)} group(s), one for each {placeholder} in the text, "
            f"found {len(groups)}"
        )
    for number, group in enumerate(groups):
        if not group:
            raise DataError(f"{where}.{field}[{number}]: expected at least one index, found none")
        for index in group:
            if not 0 <= index < known:
                raise DataError(f"{where}.{field}[{number}]: {_no_region(index, known)}")


def _images(key: str, record: Mapping[str, Any], folder: str | None) -> tuple[ImageRef, ...]:
    if record.get("image") is not None and record.get("images") is not None:
        raise DataError(f"{key}: expected 'image' or 'images', found both")
    if record.get("image") is not None:
        sources: Sequence[object] = [record["image"]]
    else:
        sources = _list(f"{key}: images", record.get("images"))
    try:
        return tuple(image_ref(source, folder) for source in sources)
    except DataError as error:
        raise DataError(f"{key}: image: {error}") from error


def _target(key: str, target: object) -> tuple[tuple[Box, ...], tuple[Point, ...]]:
    fields = _mapping(f"{key}: target", target, ("boxes", "points", "boxes_image", "points_image"))
    boxes: list[Box] = []
    points: list[Point] = []
    for values, image in _regions(key, fields, "boxes", 4):
        try:
            x1, y1, x2, y2 = values
            boxes.append(Box(x1=x1, y1=y1, x2=x2, y2=y2, image=image))
        except DataError as error:
            raise DataError(f"{key}: target.boxes[{len(boxes)}]: {error}") from error
    for values, image in _regions(key, fields, "points", 2):
        try:
            points.append(Point(x=values[0], y=values[1], image=image))
        except DataError as error:
            raise DataError(f"{key}: target.points[{len(points)}]: {error}") from error
    return tuple(boxes), tuple(points)


def _regions(key: str, target: Mapping[str, Any], field: str, size: int) -> list[tuple[list[float], int]]:
    regions = _list(f"{key}: target.{field}", target.get(field))
    if target.get(f"{field}_image") is None:
        images: Sequence[Any] = [0] * len(regions)
    else:
        images = _indices(f"{key}: target.{field}_image", target[f"{field}_image"])
    if len(images) != len(regions):
        raise DataError(f"{key}: target.{field}_image: expected {len(regions)} entries, found {len(images)}")
    found: list[tuple[list[float], int]] = []
    for number, (values, image) in enumerate(zip(regions, images, strict=True)):
        where = f"{key}: target.{field}[{number}]"
        numbers = _list(where, values)
        if len(numbers) != size or not all(map(_is_number, numbers)):
            raise DataError(f"{where}: expected {size} numbers, found {_kind(values)}")
        found.append(([float(value) for value in numbers], image))
    return found


def is_finite(value: object) -> TypeGuard[float]:
    """Whether it is a finite number; True and False are none."""
    return _is_number(value) and math.isfinite(value)


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _turn(where: str, turn: object) -> Turn:
    fields = _mapping(where, turn, ("from", "value", "boxes_seq", "points_seq"))
    if fields.get("from") not in ("human", "gpt"):
        raise DataError(f"{where}.from: expected 'human' or 'gpt', found {_kind(fields.get('from'))}")
    return Turn(
        role=fields["from"],
        text=_text(f"{where}.value", fields.get("value")),
        boxes_seq=_groups(f"{where}.boxes_seq", fields.get("boxes_seq")),
        points_seq=_groups(f"{where}.points_seq", fields.get("points_seq")),
    )


def _groups(where: str, groups: object) -> Groups:
    return tuple(tuple(_indices(f"{where}[{n}]", group)) for n, group in enumerate(_list(where, groups)))


def _truth(item: Item, truth: object) -> Truth:
    if truth is None:
        last = item.turns[-1]
        if last.role != "gpt":
            return Truth()
        return Truth(
            boxes=tuple(item.boxes[i] for group in last.boxes_seq for i in group),
            points=tuple(item.points[i] for group in last.points_seq for i in group),
            texts=(last.text,),
        )
    fields = _mapping(f"{item.key}: truth", truth, ("boxes", "points", "texts", "options", "candidates"))
    return Truth(
        boxes=_picked(f"{item.key}: truth.boxes", fields.get("boxes"), item.boxes),
        points=_picked(f"{item.key}: truth.points", fields.get("points"), item.points),
        texts=_texts(f"{item.key}: truth.texts", fields.get("texts")),
        options=_texts(f"{item.key}: truth.options", fields.get("options")),
        candidates=_picked(f"{item.key}: truth.candidates", fields.get("candidates"), item.boxes),
    )


def _texts(where: str, value: object) -> tuple[str, ...]:
    return tuple(_text(f"{where}[{number}]", text) for number, text in enumerate(_list(where, value)))


def _text(where: str, value: object) -> str:
    if not isinstance(value, str):
        raise DataError(f"{where}: expected a text, found {_kind(value)}")
    try:
        value.encode()
    except UnicodeEncodeError as error:  # JSON may hold one, a text that was cut between two \u escapes
        half = f"\\u{ord(value[error.start]):04x}"
        raise DataError(
            f"{where}: expected a text, found half a character, {half}, behind {error.start} others"
        ) from error
    return value


def _picked(where: str, indices: object, regions: tuple[Region, ...]) -> tuple[Region, ...]:
    picked = _indices(where, indices)
    for index in picked:
        if not 0 <= index < len(regions):
            raise DataError(f"{where}: {_no_region(index, len(regions))}")
    return tuple(regions[index] for index in picked)


def _indices(where: str, value: object) -> Sequence[int]:
    indices = _list(where, value)
    if not all(type(index) is int for index in indices):
        raise DataError(f"{where}: expected a list of indices, found {_kind(value)}")
    return indices


def _list(where: str, value: object) -> Sequence[Any]:
    if value is None:
        return ()
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise DataError(f"{where}: expected a list, found {_kind(value)}")
    return cast("Sequence[Any]", value)


def _mapping(where: str, value: object, known: Sequence[str]) -> Mapping[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise DataError(f"{where}: expected a dict, found {_kind(value)}")
    fields = cast("Mapping[str, Any]", value)
    for name in fields:
        if name not in known:
            raise DataError(f"{where}: unknown field '{name}', expected {', '.join(known)}")
    return fields
