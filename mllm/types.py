"""The seams of the pipeline: what each stage takes and returns.

    annotation line -> Item -> EncodedSample -> Batch -> token ids -> Prediction -> scores

All are frozen; a stage returns a new one instead of changing its input.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from dataclasses import field as attribute
from typing import TYPE_CHECKING, Any, Literal, TypedDict

from mllm.errors import DataError
from mllm.fields import in_field
from mllm.images import ImageRef, VideoFrame
from mllm.time_spans import TimeSpan

if TYPE_CHECKING:
    from torch import Tensor

Role = Literal["human", "gpt"]
Groups = tuple[tuple[int, ...], ...]
Category = str | int | float | bool
Mask = Mapping[str, Any]
"""Pixels of an image in COCO's run-length encoding: `{"size": [height, width], "counts": ...}`."""
Failure = Literal["none", "malformed", "out_of_range", "wrong_count", "inverted"]
"""Why no box could be read: none in the text, unreadable numbers, outside the frame, the wrong number, x1 > x2."""

Form = Literal["marked", "bare"]
"""Regions in an answer: as a codec writes them, or as numbers without the marks of its family."""

IMAGE, BOXES, POINTS, SPANS = "<image>", "<boxes>", "<points>", "<spans>"
VIDEO = "<video>"
"""In records only: the frames of the video, each of which is an `<image>` of the item."""

LONGEST_TEXT = 200_000
"""Characters of a turn; a tokenizer may take minutes for more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """A box in pixels of the original image, x1 <= x2 and y1 <= y2; `image` is the index of its image in the item.

    Boxes are equal whatever their labels and scores.
    """

    x1: float
    y1: float
    x2: float
    y2: float
    image: int = 0
    label: str | None = attribute(default=None, compare=False)
    """The name that its annotation, or the answer it was read from, gives it."""
    score: float | None = attribute(default=None, compare=False)
    """How sure the prediction is of it, where it says so: detection ranks boxes by it."""

    def __post_init__(self) -> None:
        if not all(map(math.isfinite, self.xyxy)):
            raise DataError(expected="four finite numbers", found=_numbers(self.xyxy), kind="not-finite")
        if self.x1 > self.x2 or self.y1 > self.y2:
            expected = "x1 <= x2 and y1 <= y2 (xyxy, not xywh)"
            raise DataError(expected=expected, found=_numbers(self.xyxy), kind="inverted-box")

    @property
    def xyxy(self) -> tuple[float, float, float, float]:
        return self.x1, self.y1, self.x2, self.y2


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """A point in pixels of the original image; `image` is the index of its image in the item."""

    x: float
    y: float
    image: int = 0

    def __post_init__(self) -> None:
        if not all(map(math.isfinite, self.xy)):
            raise DataError(expected="two finite numbers", found=_numbers(self.xy), kind="not-finite")

    @property
    def xy(self) -> tuple[float, float]:
        return self.x, self.y


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One turn. The k-th `<boxes>` in `text` stands for the boxes with indices `boxes_seq[k]`; points likewise.

    Regions of a group are on one image, unless the model calls images by number (`model_args.image_numbers`). In an
    answer a group may be empty: there is no such region.
    """

    role: Role
    text: str
    boxes_seq: Groups = ()
    points_seq: Groups = ()
    spans_seq: Groups = ()
    image: int | None = None
    """In a question: the index of the image that its answer is about, if its words and regions do not show it."""

    @property
    def groups(self) -> Mapping[str, Groups]:
        """The groups of each placeholder, in the order of the text."""
        return {BOXES: self.boxes_seq, POINTS: self.points_seq, SPANS: self.spans_seq}


@dataclass(frozen=True, slots=True, kw_only=True)
class GroundTruth:
    """What a metric compares an answer with; never tokenised. Boxes and points in original pixels."""

    boxes: tuple[Box, ...] = ()
    points: tuple[Point, ...] = ()
    time_spans: tuple[TimeSpan, ...] = ()
    texts: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    """The offered answers, in the order of the question; empty if the answer is free text."""
    candidates: tuple[Box, ...] = ()
    """The offered regions, the right one first."""
    masks: tuple[Mask, ...] = attribute(default=(), hash=False)
    """Which pixels a point may lie on."""
    no_target: bool = False
    """Whether the question asks for a region that does not exist: the right answer has no box, point or time span."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One annotated conversation about any number of images, which are not opened yet.

    Turns alternate, human first. If the last one is `gpt`, it is the answer that evaluation asks for. Its regions are
    on the image `answer_image`.
    """

    key: str
    images: tuple[ImageRef, ...] = ()
    turns: tuple[Turn, ...]
    boxes: tuple[Box, ...] = ()
    points: tuple[Point, ...] = ()
    time_spans: tuple[TimeSpan, ...] = ()
    truth: GroundTruth = GroundTruth()
    group: Mapping[str, Category] = attribute(default_factory=dict[str, "Category"], hash=False)
    """What scores are broken down by: a value for each name, as in `{"category": "person"}`."""
    expression: str | None = None
    """The words for what is to be pointed at, without the rest of the question."""
    system: str | None = None
    """A system message in place of the template's own, where that has a place for one."""
    extra_rounds: int = 0
    """How many rounds at the end only fill the row: those that do not fit into `max_length` are left out."""
    demonstrations: tuple[str, ...] = ()
    """The keys of the items that stand, answered, before this one's own rounds."""
    demonstrated_images: int = 0
    """How many of the images, the first ones, are those of the demonstrations."""

    def __post_init__(self) -> None:
        try:
            self._check()
        except DataError as error:
            raise error.at(self.key) from None

    def _check(self) -> None:
        if not self.turns:
            raise DataError(field="conversations", expected="at least one turn", found="none", kind="no-turns")
        for number, turn in enumerate(self.turns):
            in_field(f"conversations[{number}]", _check_words, turn, "human" if number % 2 == 0 else "gpt")
        slots = sum(turn.text.count(IMAGE) for turn in self.turns)
        if slots != len(self.images):
            expected = f"{len(self.images)} {IMAGE}, one for each image"
            raise DataError(field="conversations", expected=expected, found=str(slots), kind="image-count")
        for field, regions in (("boxes", self.boxes), ("points", self.points)):
            for number, region in enumerate(regions):
                if not 0 <= region.image < len(self.images):
                    raise DataError(
                        field=f"target.{field}[{number}]",
                        expected=f"an image of the record, which has {len(self.images)}",
                        found=f"image {region.image}",
                        kind="region-index",
                    )
        for number in range(len(self.turns)):
            in_field(f"conversations[{number}]", self._check_regions, number)

    def _check_regions(self, number: int) -> None:
        """Check which regions a turn names, and that those of an answer keep to the image of its question."""
        turn = self.turns[number]
        if turn.image is not None and (turn.role == "gpt" or not 0 <= turn.image < len(self.images)):
            expected = f"the number of one of {len(self.images)} images, in a human turn"
            raise DataError(field="image", expected=expected, found=str(turn.image), kind="image-number")
        asked = self.turns[number - 1].image if turn.role == "gpt" else None
        for field, placeholder, groups, regions in (
            ("boxes_seq", BOXES, turn.boxes_seq, self.boxes),
            ("points_seq", POINTS, turn.points_seq, self.points),
            ("spans_seq", SPANS, turn.spans_seq, self.time_spans),
        ):
            count = turn.text.count(placeholder)
            if count != len(groups):
                expected = f"{count} group(s), one for each {placeholder} in the text"
                raise DataError(field=field, expected=expected, found=str(len(groups)), kind="placeholder-count")
            for place, group in enumerate(groups):
                in_field(f"{field}[{place}]", _check_group, turn.role, group, regions, asked)

    def image_of(self, number: int) -> int | None:
        """The index of the image that the answer to the question `turns[number]` is about; None if that is open.

        It follows from the question's `image`; else from its regions, if they are on one image; else from the only
        image that it shows; else, if it shows none, from the question before. A single image needs no mention.
        """
        turn = self.turns[number]
        if turn.image is not None:
            return turn.image
        if len(self.images) == 1:
            return 0
        named = {self.boxes[index].image for group in turn.boxes_seq for index in group}
        named |= {self.points[index].image for group in turn.points_seq for index in group}
        if not named:
            before = sum(earlier.text.count(IMAGE) for earlier in self.turns[:number])
            named = set(range(before, before + turn.text.count(IMAGE)))
        if named:
            return named.pop() if len(named) == 1 else None
        return self.image_of(number - 2) if number >= 2 else None

    @property
    def answer_image(self) -> int:
        """The index of the image that the last question asks about, whatever the answer is; if that is open, of the
        first one that is no demonstration's."""
        image = self.image_of(len(self.prompt) - 1)
        return image if image is not None else min(self.demonstrated_images, max(len(self.images) - 1, 0))

    @property
    def has_time(self) -> bool:
        """Whether it is about a video or about stretches of time: its answers may hold time spans."""
        return bool(self.time_spans) or any(isinstance(ref, VideoFrame) for ref in self.images)

    @property
    def duration(self) -> float | None:
        """Seconds of the video that its last frame is of; None where that is not known."""
        return next((ref.duration for ref in reversed(self.images) if isinstance(ref, VideoFrame)), None)

    @property
    def own_images(self) -> tuple[ImageRef, ...]:
        """The images that are no demonstration's."""
        return self.images[self.demonstrated_images :]

    @property
    def prompt(self) -> tuple[Turn, ...]:
        """The turns before the answer."""
        return self.turns[:-1] if self.turns[-1].role == "gpt" else self.turns

    def with_extra_rounds(self, rounds: int) -> Item:
        """Keep this many of the extra rounds; drop the others with their images and regions."""
        turns = self.turns[: len(self.turns) - 2 * (self.extra_rounds - rounds)]
        images = sum(turn.text.count(IMAGE) for turn in turns)
        return replace(
            self,
            turns=turns,
            images=self.images[:images],
            boxes=tuple(box for box in self.boxes if box.image < images),
            points=tuple(point for point in self.points if point.image < images),
            extra_rounds=rounds,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedSample:
    """An item as token ids and pixels."""

    key: str
    index: int
    """Position of the item in its dataset: predictions are joined to the ground truth by it."""
    input_ids: Tensor
    """int64 [T]"""
    labels: Tensor | None
    """int64 [T], -100 where unsupervised; None for a prompt that is to be continued."""
    images: tuple[ImageRef, ...]
    """The image of each placeholder, in the order of the text."""
    pixels: tuple[Mapping[str, Tensor], ...]
    """The model's arguments for the image of each placeholder, see `ImagePreprocessor`."""
    images_end: int = 0
    """Number of tokens up to the end of the last image."""
    image_starts: tuple[int, ...] = ()
    """Number of tokens before each image."""
    cut_tokens: int = 0
    """Answer tokens that `max_length` cut off."""
    source: int = 0
    """Which dataset of a mixture it is of, see `mllm.pipeline.origins`."""
    skipped: tuple[str, ...] = ()
    """Why the items that this one replaces were skipped, see `data_args.images.on_error`."""


class Batch(TypedDict, total=False):
    """Samples side by side: B rows of T tokens, M distinct images, S image placeholders. A dict for the Trainer."""

    input_ids: Tensor  # int64 [B, T]
    attention_mask: Tensor  # int64 [B, T], absent where there are segments
    position_ids: Tensor  # int64 [B, T], only with segments
    segment_ids: Tensor  # int64 [B, T], if samples share a row: the span that a token belongs to, -1 padding
    prefix_ids: Tensor  # int64 [B, T], the span that this one continues, which may continue another; -1 none; it
    # attends to all of these; only with segments
    labels: Tensor  # int64 [B, T], absent in prompts
    suffix_ids: Tensor  # int64 [N, S], for N prompts: what follows the B prefixes, which `input_ids` then holds
    suffix_mask: Tensor  # int64 [N, S]
    suffix_prefix: Tensor  # int64 [N], the prefix of each
    label_sources: Tensor  # int64 [labels], the dataset that each is of, in reading order; absent in prompts
    pixels: Tensor  # each distinct image once; float32 [M, C, H, W] of a `SquarePreprocessor`; absent without images
    image_sizes: Tensor  # int64 [M, 2], (width, height) of each image before it was cut; of a `TiledPreprocessor`
    frames: Tensor  # int64 [M], where models take videos: how many rows of `pixels` each medium has
    image_index: Tensor  # int64 [S], the image of each placeholder, in reading order; of prefixes before suffixes
    index: Tensor  # int64 [examples], as many as B unless examples share rows
    skipped: list[str]  # why items were replaced by others; absent where none was


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """An answer that was read back, with the ground truth of the item at the same `index`."""

    key: str
    index: int
    text: str
    boxes: tuple[Box, ...] = ()
    """All readable boxes of the answer, in original pixels."""
    points: tuple[Point, ...] = ()
    failure: Failure | None = None
    """Why a region of the answer could not be read, whether or not one was asked for; see `mllm.metrics.failures`."""
    time_spans: tuple[TimeSpan, ...] = ()
    time_failure: Failure | None = None
    """Why a time span could not be read."""
    duration: float | None = None
    """Of the item's video in seconds, see `Item.duration`."""
    clipped: int = 0
    """How many boxes reached out of the image and were cut at its edge."""
    spans: tuple[tuple[int, int], ...] = ()
    """Where in `text` the form of each box, then of each point, stands; empty where that is not known."""
    read_by: tuple[str, ...] = ()
    """How its regions were found: the steps that `mllm.answers.steps_of` names, then the `Form` of the regions."""
    truth: GroundTruth = GroundTruth()
    group: Mapping[str, Category] = attribute(default_factory=dict[str, "Category"], hash=False)
    """The item's, see `Item.group`."""
    expression: str | None = None
    """The item's, see `Item.expression`."""
    demonstrations: tuple[str, ...] = ()
    """The item's, see `Item.demonstrations`."""
    candidate_scores: Mapping[str, float] = attribute(default_factory=dict[str, float], hash=False)
    """Where answers are ranked: the log-probability of each candidate, the best first; of many only the best ones."""
    image_size: tuple[int, int] | None = None
    """Width and height of the image that the answer is about, in pixels; None without an image."""

    @classmethod
    def of(cls, item: Item, index: int, text: str) -> Prediction:
        """The answer to an item, whose regions are not read yet."""
        return cls(
            key=item.key,
            index=index,
            text=text,
            truth=item.truth,
            group=item.group,
            expression=item.expression,
            demonstrations=item.demonstrations,
        )


def _numbers(values: Sequence[float]) -> str:
    return f"[{', '.join(f'{value:.10g}' for value in values)}]"


def _check_words(turn: Turn, role: Role) -> None:
    if turn.role != role:
        raise DataError(field="from", expected=f"'{role}' (turns alternate)", found=f"'{turn.role}'", kind="turn-order")
    if turn.role == "gpt" and IMAGE in turn.text:
        expected, found = f"{IMAGE} in human turns only", "it in an answer"
        raise DataError(field="value", expected=expected, found=found, kind="image-in-answer")
    if len(turn.text) > LONGEST_TEXT:
        expected = f"at most {LONGEST_TEXT:,} characters"
        raise DataError(field="value", expected=expected, found=f"{len(turn.text):,}", kind="long-text")


def _check_group(
    role: Role, group: Sequence[int], regions: Sequence[Box | Point | TimeSpan], asked: int | None
) -> None:
    """Check one group of a turn; `asked`: the image that its regions must lie on, None where that is not said."""
    if not group and role == "human":
        raise DataError(expected="at least one index in a question", found="none", kind="region-index")
    for index in group:
        if not 0 <= index < len(regions):
            raise no_region(index, len(regions))
    lie_on = [region.image for index in group if isinstance(region := regions[index], (Box, Point))]
    other = next((image for image in lie_on if image != asked), None)
    if asked is not None and other is not None:
        expected = f"regions on image {asked}, which the question is about"
        raise DataError(expected=expected, found=f"some on image {other}", kind="image-number")


def no_region(index: int, known: int) -> DataError:
    """The error of an index that is not one of the `known` regions of a target."""
    expected = f"an index from 0 to {known - 1}" if known else "no index"
    return DataError(expected=f"{expected} (the target holds {known})", found=str(index), kind="region-index")
