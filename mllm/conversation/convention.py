"""A coordinate convention: a codec, and how the images of its models are laid out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, cast

from mllm.compat.transformers_files import size_in_multiples
from mllm.conversation.codec_base import RegionCodec
from mllm.conversation.pixels import PixelCodec
from mllm.errors import ConfigError, DataError
from mllm.fields import PositiveInt, Reads, check_arguments
from mllm.geometry import MAX_PIXELS, MIN_PIXELS, PATCHES, Placement, PlacementKind, place, resize
from mllm.registry import CODECS, RegionCodecConfig

OWN_PLACEMENT = {"paligemma": "squash", "qwen25_vl": "aspect"}
"""How a family's own preprocessing lays an image out; of the others with a canvas: `pad`."""
SIDE = 336
"""Pixels of the square of `pad`, `crop` and `squash`: that of LLaVA-1.5. Fractions of it do not depend on it."""
CanvasPlacement = Literal["pad", "crop", "squash", "aspect"]
"""How an image is put on the canvas of a codec."""


class ConversionError(DataError):
    """Regions in a text that cannot be read, or that have no equal in the other convention."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Convention:
    """A codec, and where an image of (width, height) pixels lies on the canvas that its models see."""

    name: str
    codec: RegionCodec
    placement: Callable[[tuple[int, int]], Placement]
    image_numbers: bool = False
    """Whether several images are called by number."""

    def on(self, size: tuple[int, int], *, image: int = 0) -> PixelCodec:
        """The codec on image number `image`, of (width, height) pixels."""
        return PixelCodec(self.codec, self.placement(size), image=image)


def make_convention(
    codec: RegionCodecConfig,
    *,
    placement: CanvasPlacement | None = None,
    image_size: PositiveInt = SIDE,
    min_pixels: PositiveInt = MIN_PIXELS,
    max_pixels: PositiveInt = MAX_PIXELS,
    image_numbers: bool = False,
) -> Convention:
    """A convention by its codec's name, or config, and its layout.

    Args:
        placement: `pad`, `crop`, `squash` to a square of `image_size` pixels, or `aspect`: Qwen2.5-VL's multiples of 28
            pixels, with an area between `min_pixels` and `max_pixels`; None: as the family's own preprocessing does.
        image_numbers: several images are called by number, in prompts and in answers.

    Raises:
        ConfigError: an unknown codec, or bounds that exclude each other.
    """
    name = codec if isinstance(codec, str) else str(codec.get("type"))
    kind = placement or OWN_PLACEMENT.get(name, "pad")
    if min_pixels > max_pixels:
        raise ConfigError(field="min_pixels", expected=f"at most max_pixels, {max_pixels}", found=str(min_pixels))

    def on_square(size: tuple[int, int]) -> Placement:
        return place(cast(PlacementKind, kind), size, image_size)

    def by_aspect(size: tuple[int, int]) -> Placement:
        return _aspect(size, min_pixels, max_pixels)

    laid = by_aspect if kind == "aspect" else on_square
    return Convention(name=name, codec=CODECS.make(codec), placement=laid, image_numbers=image_numbers)


def read_convention(config: str | Mapping[str, Any]) -> Convention:
    """A convention from a config: a codec's name, or a dict of `make_convention`'s arguments.

    Raises:
        ConfigError: names the key.
    """
    if isinstance(config, str):
        return make_convention(config)
    check_arguments(config, make_convention)
    return make_convention(**config)


ConventionConfig = Annotated[str | Mapping[str, Any], Reads("a codec's name, or a dict with 'codec'", read_convention)]


def _aspect(size: tuple[int, int], min_pixels: int, max_pixels: int) -> Placement:
    try:
        height, width = size_in_multiples(size[1], size[0], factor=PATCHES, least=min_pixels, most=max_pixels)
    except ValueError as error:
        reason = f"an image of {size[0]} x {size[1]} pixels has no aspect placement: {error}"
        raise ConversionError(reason, kind="unsupported") from error
    return resize(size, (width, height))
