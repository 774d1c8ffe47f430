"""How pictures are opened: the section `data_args.images`, the same for every dataset of a run.

A process holds one `ImageSettings`. The builder sets it; `Encoded` takes it along to data loading workers.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args

from PIL import Image

from mllm.cache import cache_folder
from mllm.errors import ConfigError, nearest

OnError = Literal["raise", "skip"]
Pixels = Literal["exact", "close", "reduced"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageSettings:
    """What is opened, within which bounds.

    Raises:
        ConfigError: a value of another kind than its default, or out of its range.
    """

    on_error: OnError = "raise"
    """What training does with an item whose picture cannot be read; evaluation always raises."""
    pixels: Pixels = "exact"
    """How training makes the model's square of a picture, in falling order of care and cost; evaluation is exact.
    "close" resizes by another kernel, within 2/255; "reduced" also decodes large JPEGs at a part of their size."""
    cache: bool | str = True
    """Keep fetched pictures on this disk: in a folder, in `$MLLM_CACHE/images` (True), or not at all (False)."""
    cache_gb: float = 10.0
    """Bound of the cache, which the pictures unused for longest leave first."""
    timeout: float = 30.0
    """Seconds for one try to fetch one picture."""
    retries: int = 3
    """Further tries after a timeout, a broken connection or an error of the server."""
    max_mb: float = 64.0
    """Largest file that is fetched, or unpacked from an archive."""
    max_pixels: int = 100_000_000
    """Largest picture (width x height) that is decoded: a bound on memory, and on decompression bombs."""
    background: tuple[int, int, int] = (255, 255, 255)
    """RGB, 0 to 255, behind transparent pixels."""
    exif: bool = True
    """Turn pictures upright as their EXIF orientation says; False takes the pixels as they are stored."""
    allow_private: bool = False
    """Fetch by http from private addresses too (this machine, its network, a cloud's metadata service)."""
    follow_links: bool = False
    """Follow links in an `image_folder` that lead out of it."""
    protocols: tuple[str, ...] = (
        *("http", "https", "s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "hf", "oss", "hdfs"),
        "petrel",
    )
    """URLs that annotations may name. Each reads over a network: `file` would open the local disk to any list."""

    def __post_init__(self) -> None:
        for name, expected, fits in (
            ("on_error", "'raise' or 'skip'", self.on_error in get_args(OnError)),
            ("pixels", "'exact', 'close' or 'reduced'", self.pixels in get_args(Pixels)),
            ("cache", "True, False or a folder", _is(self.cache, bool, str) and self.cache != ""),
            ("cache_gb", "a number above 0", _is_number(self.cache_gb) and self.cache_gb > 0),
            ("timeout", "seconds above 0", _is_number(self.timeout) and self.timeout > 0),
            ("retries", "a whole number, 0 or more", type(self.retries) is int and self.retries >= 0),
            ("max_mb", "a number above 0", _is_number(self.max_mb) and self.max_mb > 0),
            ("max_pixels", "a whole number above 0", type(self.max_pixels) is int and self.max_pixels > 0),
            ("background", "three whole numbers, 0 to 255", _is_colour(self.background)),
            ("exif", "True or False", _is(self.exif, bool)),
            ("allow_private", "True or False", _is(self.allow_private, bool)),
            ("follow_links", "True or False", _is(self.follow_links, bool)),
            ("protocols", "a list of names", all(_is(name, str) for name in self.protocols)),
        ):
            if not fits:
                raise ConfigError(f"data_args.images.{name}: expected {expected}, found {getattr(self, name)!r}")

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
    known = [field.name for field in fields(ImageSettings)]
    given = dict(section or {})
    for name in given:
        if name not in known:
            raise ConfigError(f"data_args.images: unknown key {name!r}; {nearest(name, known)}")
    for name in ("background", "protocols"):
        if isinstance(given.get(name), (list, tuple)):
            given[name] = tuple(given[name])
        elif name in given:
            raise ConfigError(f"data_args.images.{name}: expected a list, found {given[name]!r}")
    return ImageSettings(**given)


def _is(value: object, *kinds: type) -> bool:
    return isinstance(value, kinds)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_colour(value: tuple[object, ...]) -> bool:
    return len(value) == 3 and all(type(part) is int and 0 <= part <= 255 for part in value)


_current = ImageSettings()


def current_settings() -> ImageSettings:
    """Those of this process."""
    return _current


def configure(new: ImageSettings) -> None:
    """Open pictures in this process, and in those it forks, as `new` says."""
    global _current
    _current = new
    Image.MAX_IMAGE_PIXELS = new.max_pixels  # Pillow's own bound must not come before ours
    warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # what it warns of is our error
