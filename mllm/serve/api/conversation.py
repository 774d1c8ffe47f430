"""A request's messages, with their images read and their regions in place."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from mllm.images import VideoFrame
from mllm.serve.api.images import ImageReader, SentImage
from mllm.serve.api.problems import Problem
from mllm.serve.api.schema import ChatMessage, ChatRequest, InputRegion
from mllm.serve.question import Message as Asked
from mllm.types import BOXES, IMAGE, POINTS, SPANS, VIDEO, Box, Point

IN_PLACE_OF = {IMAGE: "an image_url part", VIDEO: "an image_url part for each frame", SPANS: "seconds in words"}
"""What a request has for the placeholders of training data."""


async def messages_of(body: ChatRequest, reader: ImageReader) -> list[Asked]:
    """The conversation; an earlier question is about the image that the regions of its answer, sent back, are on.

    Raises:
        Problem: an image that cannot be read, or regions that do not match the words; names the field.
    """
    sent = _timed(body, await _images(body, reader))
    boxes = iter([region for region in body.regions or () if region.boxes is not None])
    points = iter([region for region in body.regions or () if region.points is not None])
    images = iter(sent)
    asked = [_asked(message, number, images, boxes, points) for number, message in enumerate(body.messages)]
    for number, message in enumerate(body.messages):
        if number and message.regions:
            asked[number - 1] = replace(asked[number - 1], answer_image=message.regions[0].image)
    asked[-1] = replace(asked[-1], answer_image=body.answer_image)
    for placeholder, rest in ((BOXES, boxes), (POINTS, points)):
        if left := len(list(rest)):
            raise Problem(
                400,
                f"regions: expected a {placeholder} in the words for each, found {left} more regions",
                param="regions",
            )
    sizes = [image.size for image in sent]
    if body.answer_image is not None:
        _check_index("answer_image", body.answer_image, len(sizes))
    if body.video_duration is not None and not any(isinstance(image, VideoFrame) for image in sent):
        message = "video_duration: expected images with a time, which are frames of the video, found none"
        raise Problem(400, message, param="video_duration")
    check_regions(body.regions or (), sizes, "regions")
    return asked


def check_regions(regions: Sequence[InputRegion], sizes: Sequence[tuple[int, int]], place: str) -> None:
    """
    Raises:
        Problem: a region is wholly outside of its image, or on none; names the field.
    """
    for number, region in enumerate(regions):
        _check_index(f"{place}[{number}].image", region.image, len(sizes))
        width, height = sizes[region.image]
        for kind, entries in (("boxes", region.boxes), ("points", region.points)):
            for index, numbers in enumerate(entries or ()):
                x1, y1, x2, y2 = numbers if kind == "boxes" else numbers * 2
                if x1 > width or y1 > height or x2 < 0 or y2 < 0:
                    param = f"{place}[{number}].{kind}[{index}]"
                    found = ", ".join(f"{value:.10g}" for value in numbers)
                    message = f"{param}: expected pixels of its image of {width} x {height}, found [{found}]"
                    raise Problem(400, message, param=param)


def _check_index(place: str, image: int, count: int) -> None:
    if image >= count:
        message = f"{place}: expected the index of one of {count} images, found {image}"
        raise Problem(400, message, param=place)


async def _images(body: ChatRequest, reader: ImageReader) -> list[SentImage]:
    places = [
        (part.image_url.url, f"messages[{number}].content[{index}].image_url.url")
        for number, message in enumerate(body.messages)
        for index, part in enumerate(message.content)
        if part.type == "image_url"
    ]
    most = reader.limits.max_images
    if len(places) > most:
        message = f"messages: expected at most {most} images, found {len(places)}"
        raise Problem(400, message, param="messages", code="too_many_images")
    images = [await reader.read(url, place) for url, place in places]
    shown = body.image_sizes
    if shown is None:
        return images
    if len(shown) != len(images):
        raise Problem(400, f"image_sizes: expected {len(images)}, found {len(shown)}", param="image_sizes")
    for number, (size, image) in enumerate(zip(shown, images, strict=True)):
        if size is not None and tuple(size) != image.size:
            place = f"image_sizes[{number}]"
            message = (
                f"{place}: the client shows {size[0]} x {size[1]} pixels, the image here is {image.size[0]} x "
                f"{image.size[1]}: its EXIF orientation is followed by one of them alone, and boxes would be elsewhere"
            )
            raise Problem(400, message, param=place, code="image_size")
    return images


def _timed(body: ChatRequest, images: Sequence[SentImage]) -> list[SentImage | VideoFrame]:
    """The images, those with a time as frames of a video.

    Raises:
        Problem: only some images of a message have a time, or the times do not ascend; names the field.
    """
    found: list[SentImage | VideoFrame] = []
    unread = iter(images)
    for number, message in enumerate(body.messages):
        parts = [(index, part) for index, part in enumerate(message.content) if part.type == "image_url"]
        before: float | None = None
        for index, part in parts:
            image, place = next(unread), f"messages[{number}].content[{index}].time"
            if any(other.time is not None for _, other in parts):
                if part.time is None:
                    raise Problem(400, f"{place}: expected the time of each frame, found none", param=place)
                if before is not None and part.time <= before:
                    raise Problem(400, f"{place}: expected more than {before:g}, found {part.time:g}", param=place)
                before = part.time
                found.append(VideoFrame(ref=image, time=part.time, duration=body.video_duration))
            else:
                found.append(image)
    return found


def _asked(
    message: ChatMessage,
    number: int,
    images: Iterator[SentImage | VideoFrame],
    boxes: Iterator[InputRegion],
    points: Iterator[InputRegion],
) -> Asked:
    for index, part in enumerate(message.content):
        if part.type == "text" and (mark := next((mark for mark in IN_PLACE_OF if mark in part.text), None)):
            place = f"messages[{number}].content[{index}].text"
            raise Problem(400, f"{place}: expected {IN_PLACE_OF[mark]} in place of {mark}", param=place)
    text, own = _text(message), [next(images) for part in message.content if part.type == "image_url"]
    if message.role != "user":
        role: Any = "assistant" if message.role == "assistant" else "system"
        return Asked(role=role, text=text)
    return Asked(
        role="user",
        text=text,
        images=tuple(own),
        boxes=tuple(map(_boxes, _next(text.count(BOXES), boxes, "boxes", number))),
        points=tuple(map(_points, _next(text.count(POINTS), points, "points", number))),
    )


def answer_of(text: str, regions: Sequence[InputRegion]) -> Asked:
    """A message of the assistant, with what its `<boxes>` and `<points>` stand for."""
    boxes = tuple(_boxes(region) for region in regions if region.boxes is not None)
    points = tuple(_points(region) for region in regions if region.points is not None)
    return Asked(role="assistant", text=text, boxes=boxes, points=points)


def _boxes(region: InputRegion) -> tuple[Box, ...]:
    return tuple(Box(x1=x1, y1=y1, x2=x2, y2=y2, image=region.image) for x1, y1, x2, y2 in region.boxes or ())


def _points(region: InputRegion) -> tuple[Point, ...]:
    return tuple(Point(x=x, y=y, image=region.image) for x, y in region.points or ())


def _text(message: ChatMessage) -> str:
    """The words with `<image>` for each image; a line break follows images that come first, as in training data."""
    pieces = [IMAGE if part.type == "image_url" else part.text for part in message.content]
    first = next((number for number, piece in enumerate(pieces) if piece != IMAGE), len(pieces))
    if 0 < first < len(pieces):
        pieces.insert(first, "\n")
    return "".join(pieces)


def _next(count: int, regions: Iterator[InputRegion], kind: str, number: int) -> Iterator[InputRegion]:
    for _ in range(count):
        region = next(regions, None)
        if region is None:
            raise Problem(
                400, f"regions: expected {kind} for each <{kind}> of messages[{number}], found too few", param="regions"
            )
        yield region
