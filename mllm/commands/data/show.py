"""`mllm data show`: samples as the model reads them, on a page or in the terminal."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

from mllm.commands.data.faults import fault_of, find_faults
from mllm.commands.data.words import words_faults
from mllm.conversation.processor import Processor
from mllm.conversation.rendering import IGNORE
from mllm.conversation.time_form import time_form
from mllm.dataset.base import Dataset
from mllm.errors import ConfigError, DataError, printable
from mllm.geometry import iou
from mllm.images import ImageRef
from mllm.images.names import name_of
from mllm.pipeline.splits import Split
from mllm.registry import DATASETS
from mllm.report import page
from mllm.types import IMAGE, Box, EncodedSample, Item, Point

COLOURS = ("#56b4e9", "#e69f00", "#009e73", "#cc79a7", "#f0e442", "#d55e00", "#0072b2", "#999999")
"""Okabe and Ito's, told apart by colour-blind readers; every region has its number too."""

Kind = Literal["text", "special", "region", "image"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """A piece of the rendered text; `count`: its tokens."""

    kind: Kind
    text: str
    learned: bool
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """A box or a point of the file; numbers count from 1."""

    number: int
    region: Box | Point
    role: str
    """Where it stands: in the question, in the answer."""
    read: Box | Point | None
    """What the text of the answer reads back as."""

    @property
    def colour(self) -> str:
        return COLOURS[(self.number - 1) % len(COLOURS)]

    @property
    def back(self) -> str | None:
        """How near what its text reads back as comes to it."""
        if isinstance(self.region, Box) and isinstance(self.read, Box):
            return f"text reads back with IoU {iou(self.region, self.read):.2f}"
        if isinstance(self.region, Point) and isinstance(self.read, Point):
            return f"text reads back {math.dist(self.region.xy, self.read.xy):.1f} px away"
        return None

    @property
    def coordinates(self) -> str:
        values = self.region.xyxy if isinstance(self.region, Box) else self.region.xy
        return f"[{', '.join(f'{value:.6g}' for value in values)}]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """A sample; one that cannot be read is its `error`. A file that cannot be opened has no `index`."""

    key: str
    index: int | None = None
    error: str | None = None
    item: Item | None = None
    segments: tuple[Segment, ...] = ()
    regions: tuple[Drawn, ...] = ()
    spans: tuple[str, ...] = ()
    """The time spans of the file, in words."""
    cut: int = 0
    faults: tuple[str, ...] = ()
    """What `mllm data check` says of it."""

    def tokens(self, *, kind: Kind | None = None, learned: bool | None = None) -> int:
        return sum(
            segment.count
            for segment in self.segments
            if kind in (None, segment.kind) and learned in (None, segment.learned)
        )


def cards(split: Split, processor: Processor, *, count: int, indices: Sequence[int]) -> list[Card]:
    """`count` samples of a split, evenly spaced, or those at `indices`.

    Raises:
        ConfigError: an index that the split does not have.
    """
    try:
        dataset = DATASETS.make(split.cfg)
    except DataError as error:
        fault = fault_of(error, str(split))
        return [Card(key=fault.where, error=fault.reason)]
    dataset.set_epoch(split.epoch)
    total = len(dataset)
    for index in indices:
        if not 0 <= index < total:
            raise ConfigError(
                where="--index",
                expected=f"an item of {split}, 0 to {total - 1}" if total else f"an item of {split}, which has none",
                found=str(index),
            )
    spread = [number * total // min(count, total) for number in range(min(count, total))]
    return [_card(dataset, index, processor) for index in indices or spread]


def _card(dataset: Dataset, index: int, processor: Processor) -> Card:
    looked = find_faults(dataset, index)
    where = looked.where
    if looked.item is None or not looked.sized:
        (fault, *_) = looked.faults
        return Card(key=fault.where, index=index, error=fault.reason)
    try:
        item = processor.fit_to_max_length(looked.item)
        example = processor.encode(item, index)
        return Card(
            key=item.key,
            index=index,
            item=item,
            segments=tuple(segments(example, processor)),
            regions=tuple(_drawn(item, example, processor)),
            spans=tuple(_spans(item, processor)),
            cut=example.cut_tokens,
            faults=tuple(fault.reason for fault in (*looked.faults, *words_faults(item, processor, where))),
        )
    except (DataError, ConfigError) as error:
        fault = fault_of(error, where)
        return Card(key=fault.where, index=index, error=fault.reason)


def segments(example: EncodedSample, processor: Processor) -> Iterator[Segment]:
    """The rendered text, from the token ids that the model gets; equal neighbours are one segment."""
    tokenizer: Any = processor.tokenizer
    regions = {tokenizer.convert_tokens_to_ids(token) for token in processor.codec.tokens}
    special = {number for number, token in tokenizer.added_tokens_decoder.items() if token.special}
    ids: list[int] = example.input_ids.tolist()
    assert example.labels is not None, "an example with its answer"
    learned: list[bool] = (example.labels != IGNORE).tolist()

    def kind(token: int) -> Kind:
        if token == processor.feature_token_id:
            return "image"
        return "region" if token in regions else "special" if token in special else "text"

    start, before = 0, ""
    for end in range(1, len(ids) + 1):
        here = kind(ids[start]), learned[start]
        if end < len(ids) and (kind(ids[end]), learned[end]) == here and here[0] != "special":
            continue
        # what stands before decides whether a tokenizer's decoder drops a leading space
        text: str = tokenizer.decode(ids[:end], skip_special_tokens=False, clean_up_tokenization_spaces=False)
        shown = IMAGE if here[0] == "image" else text[len(before) :]
        yield Segment(kind=here[0], text=shown, learned=here[1], count=end - start)
        start, before = end, text


def _drawn(item: Item, example: EncodedSample, processor: Processor) -> Iterator[Drawn]:
    roles = {
        (kind, index): "answer" if turn.role == "gpt" else "question"
        for turn in item.turns
        for kind, groups in ((Box, turn.boxes_seq), (Point, turn.points_seq))
        for group in groups
        for index in group
    }
    read = _read_back(item, example, processor)
    number = 0
    for kind, regions in ((Box, item.boxes), (Point, item.points)):
        for index, region in enumerate(regions):
            number += 1
            role = roles.get((kind, index), "not named in the text")
            yield Drawn(number=number, region=region, role=role, read=read.get((kind, index)))


def _read_back(item: Item, example: EncodedSample, processor: Processor) -> dict[tuple[type, int], Box | Point]:
    """What the answers' regions are for one who reads their tokens, each on its own image; where all can be read."""
    assert example.labels is not None, "an example with its answer"
    ids: list[int] = example.input_ids.tolist()
    learned: list[bool] = (example.labels != IGNORE).tolist()
    places = [list(run) for is_learned, run in groupby(range(len(ids)), key=learned.__getitem__) if is_learned]
    answers = [turn for turn in item.turns if turn.role == "gpt"]
    found: dict[tuple[type, int], Box | Point] = {}
    if len(places) != len(answers):  # one is cut off, or a template joins them
        return found
    for turn, run in zip(answers, places, strict=True):
        boxes, points = ([index for group in groups for index in group] for groups in (turn.boxes_seq, turn.points_seq))
        for image in {item.boxes[index].image for index in boxes} | {item.points[index].image for index in points}:
            answer = processor.decode([ids[place] for place in run], item, example.index, image=image)
            for kind, named, known, read in (
                (Box, boxes, item.boxes, answer.boxes),
                (Point, points, item.points, answer.points),
            ):
                if len(named) == len(read):
                    pairs = zip(named, read, strict=True)
                    found |= {(kind, index): region for index, region in pairs if known[index].image == image}
    return found


def _spans(item: Item, processor: Processor) -> Iterator[str]:
    """Each time span, where it stands, and what its text reads back as."""
    roles = {
        index: "answer" if turn.role == "gpt" else "question"
        for turn in item.turns
        for group in turn.spans_seq
        for index in group
    }
    form = time_form(processor.codec)
    for index, span in enumerate(item.time_spans):
        read = form.read(form.write([span]), item.duration)
        back = ", ".join(f"[{each.start:g}, {each.end:g}]" for each in read.spans) or read.failure
        yield f"[{span.start:g}, {span.end:g}] s, {roles.get(index, 'not named in the text')}, text reads back {back}"


Section = tuple[Split, Sequence[Card]]


def write_page(path: Path, *, title: str, sections: Sequence[Section], processor: Processor, stand_in: bool) -> None:
    """Write the page; the folder of `path` exists."""
    page.write(
        path,
        "commands/data/show.html.j2",
        title=title,
        stand_in=stand_in,
        max_length=processor.max_length,
        sections=[
            {"split": str(split), "cards": [_shown(card, processor) for card in found]} for split, found in sections
        ],
    )


def _shown(card: Card, processor: Processor) -> dict[str, Any]:
    images = card.item.images if card.item else ()
    shown = [_image(ref, number, card, processor) for number, ref in enumerate(images)]
    return {"card": card, "images": shown}


def _image(ref: ImageRef, number: int, card: Card, processor: Processor) -> dict[str, object]:
    """An image as the model sees it, and its regions on it."""
    view = processor.inputs.view_of(ref)
    image, placement = view.preview(ref.open()), view.placement(ref.size)

    def shape(region: Box | Point) -> dict[str, float]:
        corners = ((region.x1, region.y1), (region.x2, region.y2)) if isinstance(region, Box) else (region.xy,)
        units = [placement.to_unit(*corner) for corner in corners]
        (left, top), (right, bottom) = units[0], units[-1]
        width, height = image.size
        return {"x": left * width, "y": top * height, "w": (right - left) * width, "h": (bottom - top) * height}

    drawn = [drawn for drawn in card.regions if drawn.region.image == number]
    return {
        **page.embedded(image),
        "source": ref.size,
        "name": name_of(ref),
        "drawn": [
            {
                "number": each.number,
                "colour": each.colour,
                "point": isinstance(each.region, Point),
                "shape": shape(each.region),
                "read": None if each.read is None else shape(each.read),
            }
            for each in drawn
        ],
    }


def terminal(sections: Sequence[Section], *, colour: bool) -> str:
    """The same as text: what is learned is green, or stands between ⟦ and ⟧ where there are no colours."""
    lines = ["what is learned is " + (_green("green", colour=True) if colour else "in ⟦ ⟧"), ""]
    for split, found in sections:
        for card in found:
            item = "" if card.index is None else f", item {card.index}"
            lines += [f"── {split}{item} ── {printable(card.key)}", *_card_lines(card, colour), ""]
    return "\n".join(lines)


def _card_lines(card: Card, colour: bool) -> Iterator[str]:
    if card.error is not None or card.item is None:
        yield printable(f"not read: {card.error}")
        return
    for ref in card.item.images:
        yield printable(f"{name_of(ref)}, {ref.size[0]} x {ref.size[1]} pixels")
    for drawn in card.regions:
        what = "box" if isinstance(drawn.region, Box) else "point"
        back = f", its {drawn.back}" if drawn.back else ""
        yield f"{what} {drawn.number} {drawn.coordinates}, {drawn.role}{back}"
    yield from (f"time span {span}" for span in card.spans)
    cut = f", {card.cut} of the answer cut off" if card.cut else ""
    yield (f"{card.tokens()} tokens: {card.tokens(kind='image')} of images, {card.tokens(learned=True)} learned{cut}")
    yield from (printable(f"wrong: {fault}") for fault in card.faults)
    yield "".join(_joined(card.segments, colour))


def _joined(segments: Sequence[Segment], colour: bool) -> Iterator[str]:
    for number, segment in enumerate(segments):
        text = f"{IMAGE} x {segment.count}" if segment.kind == "image" else printable(segment.text, keep="\n\t")
        if colour:
            yield _green(text, colour=True) if segment.learned else text
        else:
            opens = segment.learned and (number == 0 or not segments[number - 1].learned)
            closes = segment.learned and (number + 1 == len(segments) or not segments[number + 1].learned)
            yield ("⟦" if opens else "") + text + ("⟧" if closes else "")


def _green(text: str, *, colour: bool) -> str:
    return f"\033[32m{text}\033[0m" if colour else text
