"""The image that each row of `mllm model show` brings: what a step costs depends on how much of it the model sees."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from PIL import Image

from mllm.conversation.processor import USUAL_SIZE, Processor
from mllm.errors import ConfigError, ImageError
from mllm.fields import in_field, show
from mllm.images import ImageRef, MemoryImage, is_remote
from mllm.images.resolution import Resolution, bound_image, resolution_of
from mllm.images.settings import configure, read_settings
from mllm.pipeline.data import missing_files
from mllm.registry import DATASETS

LOOKED_AT = 256
"""Items of the training set whose images are measured, from all over it."""
Size = tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Assumed:
    """An image, and why it stands for all.

    Attributes:
        size: width and height in pixels.
        resolution: bounds that go with it; None: those of the run.
    """

    size: Size
    resolution: Resolution | None = None
    why: str

    def image(self) -> ImageRef:
        """A black one, equal to no other."""
        ref = MemoryImage(Image.new("RGB", self.size))
        return bound_image(ref, self.resolution) if self.resolution else ref

    def said(self, processor: Processor) -> str:
        """The assumption, in a line."""
        tokens = count_tokens(processor, self.image())
        if processor.view.fixed:
            return f"Images: {tokens:,} tokens each, whatever their size"
        seen = processor.inputs.view_of(self.image()).placement(self.size).canvas
        given = self.resolution.given if self.resolution else {}
        bounds = "".join(f", {name} {value:,}" for name, value in given.items())
        sizes = " x ".join(map(str, self.size)), " x ".join(str(round(side)) for side in seen)
        return f"Images: {sizes[0]}, seen as {sizes[1]} in {tokens:,} tokens{bounds}: {self.why}"


def assumed(cfg: Mapping[str, Any], processor: Processor, asked: Size | None) -> Assumed:
    """As `asked`; else the image of the training set that has the most tokens, where it is on this machine.

    Raises:
        ConfigError, DataError: a training set that is there and cannot be read.
    """
    if asked is not None:
        return Assumed(size=asked, why="as --image-size says")
    if processor.view.fixed:
        return Assumed(size=USUAL_SIZE, why="any would do")
    data = cfg.get("data_args") or {}
    train = data.get("train")
    if not train:
        return _usual("data_args.train is not given")
    if missing_files(train) or "://" in repr(train):
        return _usual("data_args.train is not on this machine")
    configure(read_settings(data.get("images")))
    items: Any = in_field("data_args.train", DATASETS.make, train)
    items.set_epoch(0)
    images, unreadable = _measured(items, processor)
    if not images:
        return _usual(unreadable or "data_args.train has no images whose size is known")
    most = max(images, key=lambda ref: images[ref])
    mean = sum(images.values()) / len(images)
    why = f"the most of {len(images):,} images of data_args.train, which have {mean:,.0f} on average"
    return Assumed(size=most.size, resolution=resolution_of(most), why=why)


def count_tokens(processor: Processor, ref: ImageRef) -> int:
    view = processor.inputs.view_of(ref)
    return view.placeholder_tokens(ref.size).count(view.feature)


def read_size(text: str | None) -> Size | None:
    """`1280x960` as width and height.

    Raises:
        ConfigError: it is none.
    """
    if text is None:
        return None
    found = re.fullmatch(r"([1-9]\d{0,4})x([1-9]\d{0,4})", text)
    if not found:
        raise ConfigError(where="--image-size", expected="width x height in pixels, as in 1280x960", found=show(text))
    return int(found[1]), int(found[2])


def _usual(reason: str) -> Assumed:
    return Assumed(size=USUAL_SIZE, why=f"assumed, since {reason}; --image-size gives another")


def _measured(items: Any, processor: Processor) -> tuple[dict[ImageRef, int], str]:
    """Tokens of images on this machine; where one cannot be read, why."""
    found: dict[ImageRef, int] = {}
    unreadable = ""
    for index in range(0, len(items), max(1, -(-len(items) // LOOKED_AT))):
        try:
            for ref in items[index].images:
                if not is_remote(ref) and ref not in found:
                    found[ref] = count_tokens(processor, ref)
        except ImageError as error:
            unreadable = unreadable or f"images of data_args.train cannot be read ({error})"
    return found, unreadable
