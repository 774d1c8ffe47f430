"""A model's answer as it is written, token by token: its words, and its regions in pixels of the original image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol

from PIL import Image

from mllm.conversation.codec_base import Reading, phrase_follows, phrase_marks
from mllm.conversation.detokenizer import Detokenizer
from mllm.conversation.pixels import PixelCodec, PixelRegions
from mllm.conversation.region_conversion import RegionGroup, placeholder, replaced
from mllm.conversation.region_stream import RegionStream
from mllm.conversation.rendering import PLACEHOLDER
from mllm.errors import DataError
from mllm.images import VideoFrame
from mllm.images.contact_sheet import ContactSheet
from mllm.report.drawing import draw_regions
from mllm.serve.phrases import Form, Span, phrase_before, phrase_behind, without_forms
from mllm.serve.question import Message, to_item
from mllm.time_spans import TimeSpan
from mllm.types import Box, Failure, Item, Point, Prediction

FinishReason = Literal["stop", "length", "cancelled", "error"]
"""Why an answer ended: at its end, or a stop text; at the most tokens; at the user's wish; at an error."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """A group of boxes, or of points, that stands in one form of an answer's text.

    Attributes:
        index: its place among the answer's regions.
        boxes, points: in pixels of the original image, upright; those of the group that could be read.
        image: the index of the image, in the whole conversation, that they are on.
        label: the phrase that it is about: as the form gives it, else found by a rule of thumb; None: no such words.
        phrase: where the label stands in the answer's text; None: nowhere as one piece.
        span: where the form with its coordinates stands in the answer's text; None: the codec does not say it.
        failure: why a region of the group could not be read.
    """

    index: int
    boxes: tuple[Box, ...] = ()
    points: tuple[Point, ...] = ()
    image: int = 0
    label: str | None = None
    phrase: Span | None = None
    span: Span | None = None
    failure: Failure | None = None

    def to_dict(self) -> dict[str, object]:
        """For JSON: boxes as [x1, y1, x2, y2], points as [x, y], to a hundredth of a pixel; spans as [start, end]."""
        return {
            "index": self.index,
            "label": self.label,
            "span": self.span and list(self.span),
            "phrase": self.phrase and list(self.phrase),
            "image": self.image,
            "boxes": [_numbers(box.xyxy) for box in self.boxes],
            "points": [_numbers(point.xy) for point in self.points],
            "failure": self.failure,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """What has come to an answer: words, and regions whose form is complete."""

    text: str = ""
    regions: tuple[Region, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A whole answer.

    Attributes:
        text: the model's words as they are, coordinates included.
        plain: the words without the coordinates, for people: `<ref>the dog</ref><box>...</box>` is `the dog`.
        regions: all groups of regions in the text, in its order, also those in a model's thinking.
        plain_spans: where in `plain` the phrase of each region stands; an empty place where it has none.
        boxes, points: those by which the answer is scored: read where the text states its answer (`mllm.answers`).
        failure: why one of these could not be read.
        time_spans: intervals of a video in seconds, likewise; of questions about videos alone.
        time_failure: why a time span could not be read.
        tokens: how many were generated, the one that ends the answer included.
        item: the question, with the conversation before it.
        message: the answer as a message of the conversation, its regions typed.
    """

    text: str
    plain: str = ""
    regions: tuple[Region, ...] = ()
    plain_spans: tuple[Span, ...] = ()
    boxes: tuple[Box, ...] = ()
    points: tuple[Point, ...] = ()
    failure: Failure | None = None
    time_spans: tuple[TimeSpan, ...] = ()
    time_failure: Failure | None = None
    finish_reason: FinishReason = "stop"
    tokens: int = 0
    item: Item = field(repr=False, compare=False)
    message: Message = field(repr=False, compare=False)

    def draw(self, image: int | None = None) -> Image.Image:
        """An image with the answer's regions on it, each group in one colour (`mllm.report.drawing.colour_of`).

        `image`: its index in the conversation; None: the one that the regions are on, else that of the question. An
        answer of time spans alone gives all frames of its video, those inside in the colour of their span.

        Raises:
            DataError: there is no such image.
        """
        if image is None and self.time_spans and not self.regions:
            return _frames_drawn(self.item, self.time_spans)
        asked = next((region.image for region in self.regions), self.item.answer_image) if image is None else image
        if not 0 <= asked < len(self.item.images):
            count = len(self.item.images)
            raise DataError(field="image", expected=f"one of the conversation's {count} images", found=str(asked))
        on_it = [
            (shape, region.index)
            for region in self.regions
            if region.image == asked
            for shape in (*region.boxes, *region.points)
        ]
        return draw_regions(
            self.item.images[asked].open(), [shape for shape, _ in on_it], [number for _, number in on_it]
        )

    @property
    def seconds(self) -> list[list[float]]:
        """The time spans for JSON, [start, end] to a hundredth of a second."""
        return [_numbers((span.start, span.end)) for span in self.time_spans]

    def to_dict(self) -> dict[str, object]:
        """For JSON; regions as `Region.to_dict`, with `plain_span`, their place in `plain`."""
        return {
            "text": self.text,
            "plain": self.plain,
            "regions": [
                {**region.to_dict(), "plain_span": list(span)}
                for region, span in zip(self.regions, self.plain_spans, strict=True)
            ],
            "boxes": [_numbers(box.xyxy) for box in self.boxes],
            "points": [_numbers(point.xy) for point in self.points],
            "failure": self.failure,
            **({"time_spans": self.seconds, "time_failure": self.time_failure} if self.item.has_time else {}),
            "finish_reason": self.finish_reason,
            "tokens": self.tokens,
        }


class AnswerFormat(Protocol):
    """How a model's answers are read: what `AnswerReader` asks of a `Processor`."""

    @property
    def tokenizer(self) -> Any: ...
    @property
    def stop(self) -> str: ...
    @property
    def end_token_id(self) -> int | None: ...
    @property
    def begun(self) -> str: ...
    def opens(self, token: int) -> bool: ...
    def ends(self, token: int) -> bool: ...
    def codec_of_answer(self, item: Item, image: int | None = None) -> PixelCodec | None: ...
    def read(self, text: str, item: Item, index: int, *, image: int | None = None) -> Prediction: ...


class AnswerReader:
    """Reads one answer as its tokens come.

    The words of all pieces together are `Answer.text`, which is what `Processor.decode` gives, cut at the first of the
    `stop` texts. No piece holds a part of a character, or words that may turn out to begin a stop text or the white
    space at the end. A region comes once, with the piece that completes its form.

    Args:
        item: the question, see `to_item`.
        stop: texts that end the answer, and are none of it.
        image: the index of the image that regions are read on; None: the one that the question is about.
    """

    def __init__(
        self, processor: AnswerFormat, item: Item, *, stop: Sequence[str] = (), image: int | None = None
    ) -> None:
        self.processor = processor
        self.item = item
        self.image = image
        self.tokens = 0
        self.ended = False
        """Whether the answer has come to its end: nothing that is added later counts."""
        self._stops = (*stop, *([processor.stop] if processor.end_token_id is None else []))
        self._codec = processor.codec_of_answer(item, image)
        self._region_stream = self._codec and RegionStream(self._codec.codec, self._codec.frame.canvas)
        self._words = Detokenizer(processor.tokenizer)
        self._raw = ""
        self._text = ""
        self._regions: list[Region] = []

    def add(self, token_id: int) -> Piece:
        """The next token."""
        if self.ended:
            return Piece()
        self.tokens += 1
        if self.processor.ends(token_id):
            self.ended = True
            return Piece()
        if self.tokens == 1 and self.processor.opens(token_id):
            return Piece()
        raw = self._words.add(token_id)
        return Piece() if raw is None else self._grown(self.processor.begun + raw)

    def add_text(self, words: str) -> Piece:
        """The next words, of a server that gives no tokens."""
        return Piece() if self.ended else self._grown(self._raw + words)

    def finish(self, reason: FinishReason | None = None) -> tuple[Piece, Answer]:
        """What was held back, and the whole answer; `reason`: None: `stop` where it came to its end, else `length`."""
        raw = self.processor.begun + self._words.text if self.tokens else self._raw
        text = self._up_to_stop(raw).strip()
        codec = self._codec
        readings = [] if codec is None else codec.readings(text)
        regions = [*self._regions]
        groups = [] if codec is None else [codec.read_group(reading) for reading in readings]
        for reading, group in list(zip(readings, groups, strict=True))[len(regions) :]:
            regions.append(self._region(text, reading, group, regions))
        piece = Piece(text=text[len(self._text) :], regions=tuple(regions[len(self._regions) :]))
        scored = self.processor.read(text, self.item, 0, image=self.image)
        plain, spans = _plain(text, regions, codec)
        answer = Answer(
            text=text,
            plain=plain,
            plain_spans=spans,
            regions=tuple(regions),
            boxes=scored.boxes,
            points=scored.points,
            failure=scored.failure,
            time_spans=scored.time_spans,
            time_failure=scored.time_failure,
            finish_reason=reason or ("stop" if self.ended else "length"),
            tokens=self.tokens,
            item=self.item,
            message=_message(text, readings, groups, codec),
        )
        return piece, answer

    def _up_to_stop(self, raw: str) -> str:
        return raw[: min((place for stop in self._stops if (place := raw.find(stop)) >= 0), default=len(raw))]

    def _grown(self, raw: str) -> Piece:
        self._raw = raw
        words = self._up_to_stop(raw)
        if len(words) < len(raw):
            self.ended = True
        else:
            words = words.rstrip("\ufffd")  # perhaps a character of which bytes are missing
            begun = (_begun(words, stop) for stop in self._stops)
            words = words[: len(words) - max(begun, default=0)]
        new = words.strip()[len(self._text) :]
        self._text += new
        return Piece(text=new, regions=self._new_regions() if new else ())

    def _new_regions(self) -> tuple[Region, ...]:
        if self._codec is None or self._region_stream is None:
            return ()
        before = len(self._regions)
        spans = [region.span for region in self._regions if region.span]
        for reading in self._codec.placed(self._text, self._region_stream.new_groups(self._text), spans):
            group = self._codec.read_group(reading)
            self._regions.append(self._region(self._text, reading, group, self._regions))
        return tuple(self._regions[before:])

    def _region(self, text: str, reading: Reading, group: PixelRegions, before: Sequence[Region]) -> Region:
        codec, span = self._codec, reading.span
        assert codec is not None, "without an image nothing is read"
        done = next((region.span[1] for region in reversed(before) if region.span), 0)
        phrase: Span | None = None
        if reading.label and span:
            place = text.find(reading.label, *span)
            phrase = (place, place + len(reading.label)) if place >= 0 else None
        elif span:
            follows = phrase_follows(codec.codec)
            lead = span[0] - reading.lead
            phrase = phrase_behind(text, span[1], len(text)) if follows else phrase_before(text, done, lead)
        return Region(
            index=len(before),
            boxes=group.boxes,
            points=group.points,
            image=codec.image if reading.image is None else reading.image,
            label=reading.label or (text[slice(*phrase)] if phrase else None),
            phrase=phrase,
            span=span,
            failure=group.failure,
        )


def read_answer_text(processor: AnswerFormat, item: Item, text: str, *, image: int | None = None) -> Answer:
    """An answer that is there as text already."""
    reader = AnswerReader(processor, item, image=image)
    reader.add_text(text)
    return reader.finish("stop")[1]


def with_typed_answers(messages: Sequence[Message], processor: AnswerFormat) -> list[Message]:
    """The messages, with the regions in the words of the model's earlier answers as typed ones.

    So clients may send back `Answer.text` as they got it. An answer that has boxes or points is left as it is.
    """
    typed: list[Message] = []
    for message in messages:
        if message.role == "assistant" and not (message.boxes or message.points) and typed:
            message = read_answer_text(processor, to_item(typed), message.text).message
        typed.append(message)
    return typed


def _frames_drawn(item: Item, spans: Sequence[TimeSpan]) -> Image.Image:
    frames = {number: ref for number, ref in enumerate(item.images) if isinstance(ref, VideoFrame)}
    names = tuple(f"{ref.time:g} s" for ref in frames.values())
    sheet = ContactSheet(tuple(frames.values()), tuple(frames), names)
    within = [
        (Box(x1=x, y1=y, x2=x + frames[number].size[0] - 1, y2=y + frames[number].size[1] - 1), place)
        for place, span in enumerate(spans)
        for number, (x, y) in sheet.places.items()
        if span.start <= frames[number].time <= span.end
    ]
    return draw_regions(sheet.open(), [box for box, _ in within], [place for _, place in within])


def _numbers(values: Sequence[float]) -> list[float]:
    return [round(value, 2) for value in values]


def _begun(words: str, stop: str) -> int:
    """How many characters at the end of the words may be the beginning of the stop text."""
    return next((size for size in range(min(len(stop) - 1, len(words)), 0, -1) if words.endswith(stop[:size])), 0)


def _plain(text: str, regions: Sequence[Region], codec: PixelCodec | None) -> tuple[str, tuple[Span, ...]]:
    nowhere = (len(text), len(text))
    forms = [
        Form(
            span=region.span or nowhere,
            phrase=region.phrase,
            readable=region.span is not None and bool(region.boxes or region.points),
        )
        for region in regions
    ]
    plain, spans = without_forms(text, forms, None if codec is None else phrase_marks(codec.codec))
    return plain, tuple(spans)


def _message(
    text: str, readings: Sequence[Reading], groups: Sequence[PixelRegions], codec: PixelCodec | None
) -> Message:
    """The answer as a turn of the conversation; what could not be read stays as words."""
    typed = [
        RegionGroup(
            span=(reading.span[0] - reading.lead, reading.span[1]),  # the name of its image is written with it
            label=reading.label,
            boxes=group.boxes,
            points=group.points,
        )
        for reading, group in zip(readings, groups, strict=True)
        if reading.span is not None and group.failure is None and (group.boxes or group.points)
    ]
    shifted: list[RegionGroup] = []
    words, done = "", 0
    for group in typed:
        words += _words(text[done : group.span[0]])
        start = len(words)
        words += text[slice(*group.span)]
        shifted.append(replace(group, span=(start, len(words))))
        done = group.span[1]
    words += _words(text[done:])
    said = words if codec is None else replaced(words, shifted, placeholder, codec.codec)
    return Message(
        role="assistant",
        text=said,
        boxes=[group.boxes for group in shifted if group.boxes],
        points=[group.points for group in shifted if not group.boxes],
    )


def _words(text: str) -> str:
    """Words in which what looks like a placeholder is none: `< image >`."""
    return PLACEHOLDER.sub(lambda match: f"< {match[0][1:-1]} >", text)
