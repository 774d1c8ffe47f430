"""How images are opened: the section `data_args.images`, the same for every dataset of a run.

A process holds one `ImageSettings`. The builder sets it; `TrainDataset` takes it along to data loading workers.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from PIL import Image

from mllm.cache import cache_folder
from mllm.fields import Count, Fits, Positive, PositiveInt, Range, in_field, read_section

Level = Annotated[int, Range(least=0, most=255)]
Size = Annotated[float, Range(above=0, most=10**9)]
OnError = Literal["raise", "skip"]
Pixels = Literal["exact", "close", "reduced"]
Features = Literal["computed", "cached"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageSettings:
    """What is opened, within which bounds."""

    on_error: OnError = "raise"
    """What training does with an item whose image cannot be read; evaluation always raises."""
    pixels: Pixels = "exact"
    """How training makes the model's square of an image, in falling order of care and cost; evaluation is exact.
    "close" resizes by another kernel, within 2/255; "reduced" also decodes large JPEGs at a part of their size."""
    cache: bool | Annotated[str, Fits("a folder", bool)] = True
    """Keep fetched images on this disk: in a folder, in `$MLLM_CACHE/images` (True), or not at all (False)."""
    cache_gb: Size = 10.0
    """Bound of the cache, which the images unused for longest leave first."""
    features: Features = "computed"
    """What a frozen vision side makes of the images of training: computed at each step, or "cached": kept in
    `$MLLM_CACHE/features` from the first epoch on."""
    features_gb: Size = 20.0
    """Bound of kept features; what does not fit is computed."""
    timeout: Positive = 30.0
    """Seconds for one try to fetch one image."""
    retries: Count = 3
    """Further tries after a timeout, a broken connection or an error of the server."""
    max_mb: Size = 64.0
    """Largest file that is fetched, or unpacked from an archive."""
    max_pixels: PositiveInt = 100_000_000
    """Largest image (width x height) that is decoded: a bound on memory, and on decompression bombs."""
    background: tuple[Level, Level, Level] = (255, 255, 255)
    """RGB, 0 to 255, behind transparent pixels."""
    exif: bool = True
    """Turn images upright as their EXIF orientation says; False takes the pixels as they are stored."""
    num_frames: PositiveInt = 8
    """At most so many frames of a video, evenly spread; those that regions lie on are always among them."""
    fps: Positive | None = None
    """At most so many frames for a second of a video, before `num_frames` are taken of them; None: all."""
    allow_private: bool = False
    """Fetch by http from private addresses too (this machine, its network, a cloud's metadata service)."""
    follow_links: bool = False
    """Follow links in an `image_folder` that lead out of it."""
    protocols: tuple[str, ...] = (
        *("http", "https", "s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "hf", "oss", "hdfs"),
        "petrel",
    )
    """URLs that annotations may name. Each reads over a network: `file` would open the local disk to any list."""

    @property
    def max_bytes(self) -> int:
        return int(self.max_mb * 1e6)

    @property
    def cache_path(self) -> Path | None:
        """The folder of the cache; None where nothing is kept."""
        if isinstance(self.cache, str):
            return Path(self.cache).expanduser()
        return cache_folder() / "images" if self.cache else None


def read_settings(section: Mapping[str, Any] | None) -> ImageSettings:
    """The section `data_args.images` of a config.

    Raises:
        ConfigError: an unknown key, with the near ones, or a value that does not fit.
    """
    return in_field("data_args.images", read_section, dict(section or {}), ImageSettings)


_current = ImageSettings()


def current_settings() -> ImageSettings:
    """Those of this process."""
    return _current


def configure(new: ImageSettings) -> None:
    """Open images in this process, and in those it forks, as `new` says."""
    global _current
    _current = new
    Image.MAX_IMAGE_PIXELS = new.max_pixels  # Pillow's own bound must not come before ours
    warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # what it warns of is our error
