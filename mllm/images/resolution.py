"""How much of an image a model shall see: bounds that go with the image, since scores and costs depend on them."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

from PIL import Image

from mllm.errors import ConfigError
from mllm.fields import PositiveInt
from mllm.images import ImageRef, Video, VideoFrame


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolution:
    """Bounds on what a model sees of an image; which of them a model takes, its image processor decides.

    Attributes:
        min_pixels, max_pixels: of the image as it is resized, in whole patches.
        max_tokens: features of an image, at most.
        max_tiles: that it is cut into, beside the image as a whole.
        longest_edge: in pixels, at most.

    Raises:
        ConfigError: nothing is bounded, or `min_pixels` is above `max_pixels`.
    """

    min_pixels: PositiveInt | None = None
    max_pixels: PositiveInt | None = None
    max_tokens: PositiveInt | None = None
    max_tiles: PositiveInt | None = None
    longest_edge: PositiveInt | None = None

    def __post_init__(self) -> None:
        if not self.given:
            raise ConfigError(expected=f"one of {', '.join(BOUNDS)}", found="none of them")
        if self.min_pixels and self.max_pixels and self.min_pixels > self.max_pixels:
            raise ConfigError(
                field="min_pixels", expected=f"at most max_pixels, {self.max_pixels}", found=str(self.min_pixels)
            )

    @property
    def given(self) -> dict[str, int]:
        """The bounds that are set."""
        return {name: value for name in BOUNDS if (value := getattr(self, name)) is not None}


BOUNDS = tuple(one.name for one in fields(Resolution))


@dataclass(frozen=True, slots=True)
class BoundedImage:
    """An image that a model shall see within a resolution; in another resolution it is another image."""

    ref: ImageRef
    resolution: Resolution

    @property
    def size(self) -> tuple[int, int]:
        return self.ref.size

    def open(self) -> Image.Image:
        return self.ref.open()


def bound_image(ref: ImageRef, resolution: Resolution) -> ImageRef:
    """The image, or each frame of a video, in this resolution; where it has one already, in its own."""
    if isinstance(ref, Video):
        return Video(tuple(bound_image(frame, resolution) for frame in ref.frames))
    if isinstance(ref, VideoFrame):  # still one that has a time
        return replace(ref, ref=bound_image(ref.ref, resolution))
    return ref if resolution_of(ref) else BoundedImage(ref, resolution)


def resolution_of(ref: ImageRef) -> Resolution | None:
    """That in which an image shall be seen, also where it was changed since; None: as the run says."""
    if isinstance(ref, BoundedImage):
        return ref.resolution
    inner = ref.frames[0] if isinstance(ref, Video) else getattr(ref, "ref", None)
    return None if inner is None else resolution_of(inner)
