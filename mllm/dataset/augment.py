"""Training images mirrored, scaled and padded by chance, with the boxes, points and words that go with them."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Annotated, Literal

from mllm.dataset.base import Dataset
from mllm.dataset.left_right_text import mirrored, names_sides
from mllm.dataset.mixing import Source, build_datasets
from mllm.dataset.written_regions import writes_coordinates
from mllm.errors import ConfigError, ImageError
from mllm.fields import Positive, Probability, Range
from mllm.geometry import Placement, check_canvas, flip, pad_to_square
from mllm.images import ImageRef, Video, VideoFrame
from mllm.images.image_transforms import FlippedImage, PlacedImage
from mllm.registry import DATASETS
from mllm.types import Box, GroundTruth, Item, Point

LeftRight = Literal["swap", "refuse"]
Level = Annotated[int, Range(least=0, most=255)]
Colour = tuple[int, int, int]
Move = tuple[ImageRef, Placement]
"""What an image becomes, and where its pixels are then."""

COLOURS: dict[str, Colour] = {"white": (255, 255, 255), "black": (0, 0, 0), "mean": (122, 116, 104)}
"""Names of backgrounds -> RGB. `mean` is CLIP's (0.4815, 0.4578, 0.4082), with which its towers' views pad."""


Background = Literal["mean", "white", "black", "random"] | tuple[Level, Level, Level]


@DATASETS.register_module()
class Augmented:
    """A dataset with random changes to its images, drawn from (`seed`, epoch, index); evaluation changes nothing.

    All images and turns of an item change together, by one draw. An item whose words hold coordinates as numbers, and
    one without images, stays as it is.

    Args:
        dataset: a config, or a dataset already built.
        flip: probability of mirroring. An item is left unmirrored where its texts cannot follow, see `sides.mirrored`.
        words: what becomes of left and right in the texts: "swap", or "refuse", and the item is not mirrored.
        scale: range of a factor, on a canvas of the image's own size at a drawn place. Above 1 this is a crop, which
            holds every box and point of the image whole; where it cannot, and where there is none, it is left out.
        pad: probability of padding to a square as `placement="pad"` does, but in `background`.
        background: "mean" (CLIP's), "white", "black", "random" (one colour for an item), or RGB from 0 to 255.
        seed: of the draws.

    Raises:
        ConfigError: an argument is out of its range.
        ImageError: on access: an image has no readable size.

    Source: random colours around half of the images are what Instruct-Flamingo pads with (pad=0.5, "random").
    """

    def __init__(
        self,
        *,
        dataset: Source,
        flip: Probability = 0.0,
        words: LeftRight = "swap",
        scale: tuple[Positive, Positive] = (1.0, 1.0),
        pad: Probability = 0.0,
        background: Background = "mean",
        seed: int = 0,
    ) -> None:
        self.dataset = build_datasets(dataset)
        self.flip = flip
        self.words: LeftRight = words
        self.scale = _factors(scale)
        self.pad = pad
        self.background = _background(background)
        self.seed = seed
        self.epoch: int | None = None

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Item:
        item = self.dataset[index]
        if self.epoch is None or not item.images or any(map(writes_coordinates, _texts(item))):
            return item
        # a text of its own: the same seed must not draw the question and the flip from the same numbers
        rng = random.Random(f"augment {self.seed} {self.epoch} {index}")
        flipped, factor, padded = rng.random() < self.flip, rng.uniform(*self.scale), rng.random() < self.pad
        place = rng.random(), rng.random()
        colour = self.background or (rng.randrange(256), rng.randrange(256), rng.randrange(256))
        try:
            if flipped and (self.words == "swap" or not any(map(names_sides, _texts(item)))):
                item = flipped_item(item) or item
            if factor != 1:
                item = scaled_item(item, factor, place, colour)
            return padded_item(item, colour) if padded else item
        except ImageError as error:
            raise error.at(item.key) from error

    def part(self, index: int) -> tuple[Dataset, int]:
        return self.dataset, index

    def set_epoch(self, epoch: int | None) -> None:
        self.epoch = epoch
        self.dataset.set_epoch(epoch)


def flipped_item(item: Item) -> Item | None:
    """The item in a mirror; None where its texts cannot follow."""
    texts = {text: mirrored(text) for text in _texts(item)}
    sure = {text: follows for text, follows in texts.items() if follows is not None}
    if len(sure) < len(texts):
        return None
    turns = tuple(replace(turn, text=sure[turn.text]) for turn in item.turns)
    truth = replace(item.truth, texts=tuple(sure[text] for text in item.truth.texts))
    return _moved(replace(item, turns=turns, truth=truth), lambda image, _: (FlippedImage(image), flip(image.size)))


def scaled_item(item: Item, factor: float, place: tuple[float, float], colour: Colour) -> Item:
    """The item with its images scaled on canvases of their own size; `place` in [0, 1) along each free margin.

    An image that would be cropped stays as it is where no crop holds all its boxes and points, or there are none.
    """

    def move(image: ImageRef, medium: ImageRef) -> Move:
        size = image.size
        extent = max(1, round(size[0] * factor)), max(1, round(size[1] * factor))
        scale = extent[0] / size[0], extent[1] / size[1]
        corners = _corners(item, medium)
        offset: list[int] = []
        for axis in (0, 1):
            low, high = sorted((0, size[axis] - extent[axis]))
            if factor > 1:
                if not corners:
                    return _unchanged(image)
                values = [min(max(corner[axis], 0), size[axis]) * scale[axis] for corner in corners]
                low, high = max(low, math.ceil(-min(values))), min(high, math.floor(size[axis] - max(values)))
                if low > high:
                    return _unchanged(image)
            offset.append(low + int(place[axis] * (high - low + 1)))
        x, y = offset
        return _placed(image, Placement(source=size, canvas=size, scale=scale, offset=(float(x), float(y))), colour)

    return _moved(item, move)


def padded_item(item: Item, colour: Colour) -> Item:
    """The item with its images in the middle of squares of this colour."""

    def move(image: ImageRef, medium: ImageRef) -> Move:
        square = pad_to_square(image.size)
        check_canvas(image.size, square.canvas)
        return _placed(image, square, colour)

    return _moved(item, move)


def _moved(item: Item, move: Callable[[ImageRef, ImageRef], Move]) -> Item:
    """The item with each distinct image replaced, and the boxes and points on it moved along.

    `move` takes an image, or a frame, and the image or video that this is of.
    """
    moves = {ref: _each_frame(ref, move) for ref in item.images}
    placements = [moves[ref][1] for ref in item.images]

    def boxes(found: Iterable[Box]) -> tuple[Box, ...]:
        return tuple(placements[box.image].move_box(box) for box in found)

    def points(found: Iterable[Point]) -> tuple[Point, ...]:
        return tuple(placements[point.image].move_point(point) for point in found)

    truth: GroundTruth = replace(item.truth, boxes=boxes(item.truth.boxes), points=points(item.truth.points))
    images = tuple(moves[ref][0] for ref in item.images)
    return replace(item, images=images, boxes=boxes(item.boxes), points=points(item.points), truth=truth)


def _each_frame(medium: ImageRef, move: Callable[[ImageRef, ImageRef], Move]) -> Move:
    """Of a video every frame; its boxes lie on the first."""
    if isinstance(medium, VideoFrame):
        ref, placement = move(medium.ref, medium)
        return replace(medium, ref=ref), placement
    if not isinstance(medium, Video):
        return move(medium, medium)
    frames = [move(frame, medium) for frame in medium.frames]
    return Video(tuple(frame for frame, _ in frames)), frames[0][1]


def _placed(ref: ImageRef, placement: Placement, colour: Colour) -> Move:
    (width, height), scale, offset = placement.source, placement.scale, placement.offset
    if placement.canvas == placement.source and scale == (1, 1) and offset == (0, 0):
        return _unchanged(ref)
    extent = round(width * scale[0]), round(height * scale[1])
    corner = int(offset[0]), int(offset[1])
    return PlacedImage(ref=ref, extent=extent, canvas=placement.canvas, offset=corner, colour=colour), placement


def _unchanged(ref: ImageRef) -> Move:
    return ref, Placement(source=ref.size, canvas=ref.size)


def _corners(item: Item, ref: ImageRef) -> list[tuple[float, float]]:
    """Of all regions on an image; a point is one corner."""
    on_it = {
        number
        for number, image in enumerate(item.images)  # frames of a video move together
        if image == ref or (isinstance(image, VideoFrame) and isinstance(ref, VideoFrame))
    }
    boxes = [box for box in (*item.boxes, *item.truth.boxes) if box.image in on_it]
    points = [point.xy for point in (*item.points, *item.truth.points) if point.image in on_it]
    return [corner for box in boxes for corner in ((box.x1, box.y1), (box.x2, box.y2))] + points


def _texts(item: Item) -> list[str]:
    """Of all turns, then of the truth."""
    return [*(turn.text for turn in item.turns), *item.truth.texts]


def _factors(scale: Sequence[float]) -> tuple[float, float]:
    least, most = scale
    if least > most:
        raise ConfigError(field="scale", expected="[least, most] factor", found=str(list(scale)))
    return least, most


def _background(background: str | Sequence[int]) -> Colour | None:
    """RGB; None where it is to be drawn."""
    if isinstance(background, str):
        return COLOURS.get(background)
    red, green, blue = background
    return red, green, blue
