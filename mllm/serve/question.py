"""Messages -> Item: what the Python interface, the terminal, the HTTP interface and the web page ask.

Placeholders in the words are bound to what the same message brings, in order, and to nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeGuard, TypeVar, cast

from PIL import Image

from mllm.conversation.time_form import TimeForm
from mllm.errors import DataError
from mllm.fields import is_finite, show
from mllm.images import ImageRef, VideoFrame, image_ref
from mllm.json_fields import text as whole_text
from mllm.types import BOXES, IMAGE, POINTS, SPANS, VIDEO, Box, GroundTruth, Groups, Item, Point, Turn

ImageSource = str | Path | Image.Image | ImageRef | Sequence[Any]
"""A path, a URL, a PIL image, a reference, or the frames of a video as a list of them."""
BoxLike = Box | Sequence[float]
"""A `Box`, or x1, y1, x2, y2 in pixels."""
PointLike = Point | Sequence[float]
"""A `Point`, or x, y in pixels."""
MessageRole = Literal["user", "assistant", "system"]
Region = TypeVar("Region", Box, Point)


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One message of a conversation.

    In `text`, each `<image>` stands for the next of `images` (without one, the images come first), each `<boxes>` for
    the next entry of `boxes`, and each `<points>` for the next of `points`: one region, or a list of several. A single
    image or region needs no list around it; numbers may be arrays.

    Regions are in pixels of the original image, upright. A `Box` or `Point` names its image by its index in the whole
    conversation. Bare numbers lie on the first image of their message, or of the last message before that has images.

    `answer_image`, of a question: the index of the image that its answer is about; None: as in `Item.image_of`.
    """

    role: MessageRole
    text: str
    images: Sequence[ImageSource] = ()
    boxes: Sequence[BoxLike | Sequence[BoxLike]] = ()
    points: Sequence[PointLike | Sequence[PointLike]] = ()
    answer_image: int | None = None


def to_item(
    messages: Sequence[Message], *, answer_image: int | None = None, key: str = "question", answered: bool = False
) -> Item:
    """The conversation as an item whose last turn is the question.

    Args:
        messages: by turns `user` and `assistant`; a `system` message may come first.
        answer_image: the index of the image that the answer is about; None: as the last message says.
        key: what errors call it.
        answered: the last turn may be an answer.

    Raises:
        DataError: names the message and its field: placeholders that do not match the images or regions, a region that
            is none, turns that do not alternate, nothing to answer.
    """
    system, said = _system(messages, key)
    first = len(messages) - len(said)
    conversation = _Conversation()
    try:
        for number, message in enumerate(said):
            try:
                conversation.add(message, asks=number == len(said) - 1 and not answered)
            except DataError as error:
                raise (error.inside(f"messages[{first + number}]") if len(messages) > 1 else error) from error
        return conversation.item(key, system, answer_image)
    except DataError as error:
        raise error.at(key) from error


def _system(messages: Sequence[Message], key: str) -> tuple[str | None, Sequence[Message]]:
    """The system message, and the others."""
    if messages and messages[0].role == "system":
        first = messages[0]
        if first.images or first.boxes or first.points or any(each in first.text for each in (IMAGE, BOXES, POINTS)):
            raise DataError(where=key, field="messages[0]", expected="words alone", found="images or regions")
        try:
            return _whole(first.text, "messages[0].text"), messages[1:]
        except DataError as error:
            raise error.at(key) from error
    return None, messages


def _whole(said: object, field: str) -> str:
    try:
        return whole_text(said)
    except DataError as error:
        raise error.inside(field) from error


class _Conversation:
    def __init__(self) -> None:
        self.turns: list[Turn] = []
        self.images: list[ImageRef] = []
        self.boxes: list[Box] = []
        self.points: list[Point] = []
        self.image = 0
        """On which bare numbers lie."""

    def add(self, message: Message, *, asks: bool) -> None:
        role = "human" if message.role == "user" else "gpt"
        expected = "human" if len(self.turns) % 2 == 0 else "gpt"
        if role != expected or message.role == "system":
            names = {"human": "'user'", "gpt": "'assistant'"}
            raise DataError(
                field="role",
                expected=f"{names[expected]} (user and assistant take turns, a system message stands first)",
                found=show(message.role),
                kind="turn-order",
            )
        if asks and role == "gpt":
            raise DataError(field="role", expected="'user' in the last message", found="'assistant'", kind="turn-order")
        text, images = _whole(message.text, "text"), _listed(message.images)
        if role == "human" and not text.strip() and not images:
            raise DataError(field="text", expected="a text with a word", found=repr(text), kind="blank-text")
        if images and IMAGE not in text:
            text = IMAGE * len(images) + (f"\n{text}" if text.strip() else "")
        self._add_images(images, text)
        boxes = self._groups("boxes", BOXES, text, message.boxes, self.boxes, _box)
        points = self._groups("points", POINTS, text, message.points, self.points, _point)
        image = message.answer_image
        self.turns.append(Turn(role=role, text=text, boxes_seq=boxes, points_seq=points, image=image))

    def _add_images(self, images: Sequence[ImageSource], text: str) -> None:
        slots = text.count(IMAGE)
        if slots != len(images):
            raise DataError(
                field="images",
                expected=f"an image for each of its {slots} {IMAGE}",
                found=str(len(images)),
                kind="image-count",
            )
        if images:
            self.image = len(self.images)
        for number, source in enumerate(images):
            try:
                self.images.append(image_ref(source))
            except DataError as error:
                raise error.inside(f"images[{number}]") from error

    def _groups(self, field: str, placeholder: str, text: str, given: object, known: list[Region], read: Any) -> Groups:
        slots, given = text.count(placeholder), _entries(given)
        if slots != len(given):
            noun = "box" if field == "boxes" else "point"
            raise DataError(
                field=field,
                expected=f"a {noun} for each of its {slots} {placeholder}",
                found=str(len(given)),
                kind="placeholder-count",
            )
        groups: list[tuple[int, ...]] = []
        for number, entry in enumerate(given):
            try:
                regions = [read(region, self.image) for region in _members(entry)]
            except DataError as error:
                raise error.inside(f"{field}[{number}]") from error
            groups.append(tuple(range(len(known), len(known) + len(regions))))
            known += regions
        return tuple(groups)

    def item(self, key: str, system: str | None, answer_image: int | None) -> Item:
        if not self.turns:
            raise DataError(field="messages", expected="a question", found="none", kind="no-turns")
        if answer_image is not None:
            self.turns[-1] = replace(self.turns[-1], image=answer_image)
        return Item(
            key=key,
            images=tuple(self.images),
            turns=tuple(self.turns),
            boxes=tuple(self.boxes),
            points=tuple(self.points),
            truth=GroundTruth(),
            system=system,
        )


def _listed(images: ImageSource | Sequence[ImageSource]) -> Sequence[ImageSource]:
    return images if isinstance(images, list | tuple) else [images]


def _entries(given: Any) -> Sequence[object]:
    """What a message gives for its placeholders, where arrays are lists and one region stands for itself."""
    given = given.tolist() if hasattr(given, "tolist") else given
    return [given] if isinstance(given, Box | Point) or _are_numbers(given) else given


def _members(entry: object) -> Iterable[object]:
    """The regions of a group, which may be a single one."""
    entry = entry.tolist() if hasattr(entry, "tolist") else entry  # pyright: ignore[reportAttributeAccessIssue]
    if isinstance(entry, Box | Point) or _are_numbers(entry):
        return (entry,)
    if not isinstance(entry, Sequence) or isinstance(entry, str) or not entry:
        raise DataError(expected="numbers, or a list of regions", found=show(entry), kind="coordinates")
    return cast("Sequence[Any]", entry)


def _are_numbers(value: object) -> TypeGuard[Sequence[float]]:
    return isinstance(value, Sequence) and not isinstance(value, str) and bool(value) and all(map(_is_number, value))


def _is_number(value: object) -> bool:
    return is_finite(value) or isinstance(value, float)


def _box(value: object, image: int) -> Box:
    if isinstance(value, Box):
        return value
    x1, y1, x2, y2 = _coordinates(value, 4)
    return Box(x1=x1, y1=y1, x2=x2, y2=y2, image=image)


def _point(value: object, image: int) -> Point:
    if isinstance(value, Point):
        return value
    x, y = _coordinates(value, 2)
    return Point(x=x, y=y, image=image)


def _coordinates(value: object, count: int) -> list[float]:
    if not _are_numbers(value) or len(value) != count:
        raise DataError(expected=f"{count} numbers", found=show(value), kind="coordinates")
    return [float(number) for number in value]


def as_messages(item: Item) -> list[Message]:
    """The conversation of an item as messages, with the images, boxes and points of each; `to_item` is its inverse."""
    messages = [] if item.system is None else [Message(role="system", text=item.system)]
    shown = 0
    for turn in item.turns:
        count = turn.text.count(IMAGE)
        messages.append(
            Message(
                role="user" if turn.role == "human" else "assistant",
                text=_with_times(turn, item),
                images=item.images[shown : shown + count],
                boxes=[[item.boxes[index] for index in group] for group in turn.boxes_seq],
                points=[[item.points[index] for index in group] for group in turn.points_seq],
                answer_image=turn.image,
            )
        )
        shown += count
    return messages


def _with_times(turn: Turn, item: Item) -> str:
    """The words of a turn, its time spans among them."""
    groups = iter(turn.spans_seq)

    def words(_: re.Match[str]) -> str:
        return TimeForm().write([item.time_spans[index] for index in next(groups)]) or "none"

    return re.sub(SPANS, words, turn.text)


def record_of(item: Item, sources: Mapping[ImageRef, Any]) -> dict[str, Any]:
    """The item in the dataset's format (docs/data.md).

    `sources`: what to write for each of its images: a path, a URL, or a list of them for a video.

    Its inverse is `mllm.records.read_item`.
    """
    turns: list[dict[str, Any]] = []
    for turn in item.turns:
        fields: dict[str, Any] = {"from": turn.role, "value": turn.text}
        for name, value in (
            ("boxes_seq", turn.boxes_seq),
            ("points_seq", turn.points_seq),
            ("spans_seq", turn.spans_seq),
        ):
            if value:
                fields[name] = [list(group) for group in value]
        if turn.image is not None:
            fields["image"] = turn.image
        turns.append(fields)
    target: dict[str, Any] = {}
    for name, regions in (
        ("boxes", [(box.xyxy, box.image) for box in item.boxes]),
        ("points", [(point.xy, point.image) for point in item.points]),
    ):
        if regions:
            target[name] = [list(numbers) for numbers, _ in regions]
            target[f"{name}_image"] = [image for _, image in regions]
    if item.time_spans:
        target["spans"] = [[span.start, span.end] for span in item.time_spans]
    record: dict[str, Any] = {"images": [sources[ref] for ref in item.images], "target": target, "conversations": turns}
    frames = [ref for ref in item.images if isinstance(ref, VideoFrame)]
    if frames and len(frames) == len(item.images) and any(IMAGE * len(frames) in turn["value"] for turn in turns):
        for turn in turns:
            turn["value"] = turn["value"].replace(IMAGE * len(frames), VIDEO)
        video = {"frames": record.pop("images"), "times": [frame.time for frame in frames]}
        record["video"] = video if item.duration is None else {**video, "duration": item.duration}
    return record if item.system is None else {**record, "system": item.system}
