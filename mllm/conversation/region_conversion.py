"""Regions in words: found as one convention writes them, and rewritten as another does, or lifted into typed ones."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

from mllm.conversation.codec_base import RegionCodec, phrase_marks, read_answer
from mllm.conversation.convention import Convention, ConversionError
from mllm.errors import ConfigError, DataError
from mllm.records import answer_truth
from mllm.types import BOXES, POINTS, Box, GroundTruth, Item, Point, Turn

Size = Callable[[], tuple[int, int]]
"""An image's (width, height) in pixels, asked for only where a text holds regions."""
PLACEHOLDER = re.compile(f"{BOXES}|{POINTS}")


@dataclass(frozen=True, slots=True, kw_only=True)
class RegionGroup:
    """A group of regions in a text, in pixels of the original image."""

    span: tuple[int, int]
    label: str | None
    boxes: tuple[Box, ...]
    points: tuple[Point, ...]


def find(text: str, size: Size, source: Convention, *, image: int = 0, answer: bool = False) -> Iterator[RegionGroup]:
    """The groups of regions in a text, in its order.

    `answer`: the text is a model's, which may leave out the marks of its family, and whose boxes are cut off at the
    edge of the image. Numbers of a dataset must lie in the convention's frame.

    Raises:
        ConversionError: a group that cannot be read, or lies where the image is not.
        ConfigError: the codec does not say where its regions stand.
    """
    read = partial(read_answer, source.codec) if answer else source.codec.read
    if not read(text, (1, 1)):  # what counts as a region does not depend on the size
        return
    codec = source.on(size(), image=image)
    for reading in read(text, codec.frame.canvas):
        if reading.span is None:
            raise ConfigError(
                f"codec '{source.name}' does not give the position of its regions: its readings have no span"
            )
        regions = codec.read_group(reading, cut=answer)
        failure = regions.failure or (None if answer else codec.out_of_frame(reading))
        if failure is not None:
            written = text[slice(*reading.span)]
            raise ConversionError(f"{written[:80]!r}: {source.name} cannot read it: {failure}", kind="words-region")
        yield RegionGroup(span=reading.span, label=reading.label, boxes=regions.boxes, points=regions.points)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rewritten:
    """A text with its regions in another form.

    Attributes:
        groups: of regions that were read.
        rest: the text that stood between them.
    """

    text: str
    groups: int
    rest: str


def rewrite(text: str, size: Size, *, source: Convention, target: Convention, answer: bool = False) -> Rewritten:
    """The text with every group of regions in the target's form.

    A phrase that the source's form holds itself comes to stand before the target's, as plain text, and the source's
    marks around other phrases are dropped.

    Raises:
        ConversionError: as `find`, or a group lies where the target's frame does not reach.
        ConfigError: the target has no form for boxes, or for points; as `find`.
    """
    groups = list(find(text, size, source, answer=answer))

    def write(group: RegionGroup) -> str:
        codec = target.on(size())
        try:
            return codec.write_boxes(group.boxes) if group.boxes else codec.write_points(group.points)
        except DataError as error:
            kind, region = ("box", group.boxes) if group.boxes else ("point", group.points)
            reason = f"{kind} {_pixels(region)} lies outside the frame of {target.name}"
            raise ConversionError(reason, kind="unseen-region") from error

    return Rewritten(
        text=replaced(text, groups, write, source.codec),
        groups=len(groups),
        rest=replaced(text, groups, lambda _: "", source.codec),
    )


class Lifting:
    """Lifts the regions in the words of a conversation into typed ones, which it collects in `boxes` and `points`."""

    def __init__(self, source: Convention, boxes: Iterable[Box] = (), points: Iterable[Point] = ()) -> None:
        self.source = source
        self.boxes = list(boxes)
        self.points = list(points)

    def turn(self, turn: Turn, size: Size, *, image: int = 0) -> Turn:
        """The turn with a placeholder for each group of regions in its words, beside those that it has.

        Phrases and their marks become plain words, as in `rewrite`.

        Raises:
            ConversionError, ConfigError: as `find`.
        """
        groups = list(find(turn.text, size, self.source, image=image))
        given = {BOXES: iter(turn.boxes_seq), POINTS: iter(turn.points_seq)}
        seqs: dict[str, list[tuple[int, ...]]] = {BOXES: [], POINTS: []}

        def take_given(start: int, end: int) -> None:
            for match in PLACEHOLDER.finditer(turn.text, start, end):
                seqs[match[0]].append(next(given[match[0]]))

        done = 0
        for group in groups:
            take_given(done, group.span[0])
            known, regions = (self.boxes, group.boxes) if group.boxes else (self.points, group.points)
            seqs[placeholder(group)].append(tuple(range(len(known), len(known) + len(regions))))
            self.boxes += group.boxes
            self.points += group.points
            done = group.span[1]
        take_given(done, len(turn.text))
        text = replaced(turn.text, groups, placeholder, self.source.codec)
        return replace(turn, text=text, boxes_seq=tuple(seqs[BOXES]), points_seq=tuple(seqs[POINTS]))


def lift_item(item: Item, source: Convention) -> Item:
    """The item with the regions in its words as boxes and points; one without images stays as it is.

    Raises:
        DataError: names the turn: a region that cannot be read, or is not on the image; several images, of which the
            question does not say one.
        ConfigError: as `find`.
    """
    if not item.images:
        return item
    lifting = Lifting(source, item.boxes, item.points)
    turns: list[Turn] = []
    for number, turn in enumerate(item.turns):
        image = item.image_of(number if turn.role == "human" else number - 1)
        try:
            turns.append(lifting.turn(turn, partial(_size, item, image), image=image or 0))
        except DataError as error:
            raise error.inside(f"conversations[{number}].value").at(item.key) from error
    lifted = replace(
        item, turns=tuple(turns), boxes=tuple(lifting.boxes), points=tuple(lifting.points), truth=GroundTruth()
    )
    return replace(lifted, truth=answer_truth(lifted) if item.truth == answer_truth(item) else item.truth)


def _size(item: Item, image: int | None) -> tuple[int, int]:
    if image is None:
        raise ConversionError(
            expected="regions in words on one image",
            found=f"some in a record of {len(item.images)}",
            message="name their image with 'image' in the question's turn",
            kind="image-number",
        )
    return item.images[image].size


def placeholder(group: RegionGroup) -> str:
    """What stands for a group in the text of a turn."""
    return BOXES if group.boxes else POINTS


def replaced(text: str, groups: Sequence[RegionGroup], write: Callable[[RegionGroup], str], codec: RegionCodec) -> str:
    """The text with each group as `write` gives it behind its phrase, and without the codec's marks of phrases."""
    marks = phrase_marks(codec)
    pattern = None if marks is None else re.compile("|".join(map(re.escape, marks)), re.IGNORECASE)

    def plain(words: str) -> str:
        return words if pattern is None else pattern.sub("", words)

    pieces: list[str] = []
    done = 0
    for group in groups:
        phrase = f"{group.label} " if group.label else ""
        pieces += [plain(text[done : group.span[0]]), phrase, write(group)]
        done = group.span[1]
    return "".join(pieces) + plain(text[done:])


def _pixels(regions: Sequence[Box | Point]) -> str:
    """The numbers of the regions, to a tenth of a pixel."""
    numbers = (region.xyxy if isinstance(region, Box) else region.xy for region in regions)
    return ", ".join(f"[{', '.join(f'{value:.1f}' for value in values)}]" for values in numbers)
