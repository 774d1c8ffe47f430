"""Bytes of an image file -> RGB pixels, upright; or its size, from the header alone. Both agree.

Whatever is wrong with a file is an `ImageError` that names it: half an image is never shown.
"""

from __future__ import annotations

import os
import struct
import zlib
from contextlib import closing
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import ExifTags, Image, ImageFile, UnidentifiedImageError

from mllm.errors import ImageError
from mllm.files import other_than_file
from mllm.images.settings import ImageSettings

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "JPEG2000", "PPM", "ICO")
"""What is opened, where Pillow was built with it. It knows more, some of which run programs (EPS: Ghostscript)."""

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF orientation -> what makes the stored pixels upright. Source: CIPA DC-008 (Exif), tag 0x0112."""

_BROKEN = (
    *(OSError, SyntaxError, ValueError, EOFError, LookupError, TypeError, AttributeError, ArithmeticError),
    *(AssertionError, RuntimeError, MemoryError, struct.error, zlib.error),
)
"""What Pillow's decoders raise for broken files."""

Source = str | BinaryIO
"""A path, or a file that is open."""


def size_of(source: Source, name: str, settings: ImageSettings) -> tuple[int, int]:
    """(width, height) of the upright image, without decoding it.

    Raises:
        ImageError: no image, or what `check_header` refuses; messages begin with `name`.
    """
    with closing(_opened(source, name, settings)) as image:
        return upright_size(image, settings)


def decode(
    source: Source, name: str, settings: ImageSettings, *, at_least: tuple[int, int] | None = None
) -> Image.Image:
    """The upright image, mode RGB; of an animation its first frame.

    `at_least`: where a half, a quarter or an eighth of a JPEG's size, rounded up, is no smaller than this, it is
    decoded so, which costs less. Those that are to be turned are decoded whole.

    Raises:
        ImageError: as `size_of`, or its pixels are broken or cut off.
    """
    with closing(_opened(source, name, settings)) as image:
        if at_least and image.format == "JPEG" and _orientation(image, settings) == 1:
            image.draft(None, at_least)
        return upright_rgb(image, name, settings)


def upright_size(image: Image.Image, settings: ImageSettings) -> tuple[int, int]:
    """The size that `upright_rgb` gives."""
    width, height = image.size
    return (height, width) if _orientation(image, settings) >= 5 else (width, height)


def upright_rgb(image: Image.Image, name: str, settings: ImageSettings) -> Image.Image:
    """The pixels as people see them: upright, 8 bits, RGB, transparent ones over the background.

    Raises:
        ImageError: broken pixels.
    """
    turn = _TURNS.get(_orientation(image, settings))  # before loading, which may drop the tag
    ImageFile.LOAD_TRUNCATED_IMAGES = False  # some libraries switch it on for the whole process
    try:
        image.load()
        flat = _rgb(image, settings.background)
    except (*_BROKEN, Image.DecompressionBombError) as error:  # a frame may be larger than the header says
        raise ImageError(f"cannot be decoded: {error}", where=name, kind=_kind(error)) from error
    upright = flat if turn is None else flat.transpose(turn)
    upright.info = {}  # Pillow copies the EXIF tag, by which it would be turned again
    return upright


def _opened(source: Source, name: str, settings: ImageSettings) -> Image.Image:
    try:
        if isinstance(source, str):
            check_kind(source, name)
        image = Image.open(source, formats=_formats())
    except FileNotFoundError as error:
        raise ImageError("no such image", where=name, kind="missing-image") from error
    except NotADirectoryError as error:
        said = "no such image, a part of its path is a file; one of an archive is called zip://a.jpg::photos.zip"
        raise ImageError(said, where=name, kind="missing-image") from error
    except UnidentifiedImageError as error:
        raise ImageError(
            where=name,
            expected=f"an image, one of {', '.join(_formats())}",
            found=_beginning(source),
            kind="unreadable-image",
        ) from error
    except Image.DecompressionBombError as error:
        raise ImageError(
            where=name,
            expected=f"at most {settings.max_pixels:,} pixels (images.max_pixels)",
            found="more",
            kind="unreadable-image",
        ) from error
    except _BROKEN as error:
        raise ImageError(f"not a readable image: {error}", where=name, kind=_kind(error)) from error
    try:
        check_header(image, name, settings)
    except ImageError:
        image.close()
        raise
    return image


def check_kind(path: str, name: str) -> None:
    """
    Raises:
        ImageError: a folder, or a pipe or a device, which would be waited for without end.
        OSError: nothing there.
    """
    if found := other_than_file(os.stat(path).st_mode):
        raise ImageError(where=name, expected="a file", found=found, kind="unreadable-image")


def check_header(image: Image.Image, name: str, settings: ImageSettings) -> None:
    """
    Raises:
        ImageError: no pixels, more than the settings allow, or a mode of which the brightness is not known.
    """
    width, height = image.size
    if width < 1 or height < 1:
        raise ImageError(expected="pixels", found=f"{width} x {height}", where=name, kind="unreadable-image")
    if width * height > settings.max_pixels:
        raise ImageError(
            where=name,
            expected=f"at most {settings.max_pixels:,} pixels (images.max_pixels)",
            found=f"{width} x {height}",
            kind="unreadable-image",
        )
    if image.mode in ("I", "F"):
        raise ImageError(
            where=name,
            expected="8 or 16 bits per pixel",
            found=f"mode {image.mode}, 32 bits per pixel, which have no defined white level",
            kind="unreadable-image",
        )


def _kind(error: Exception) -> str:
    """Of what Pillow says; files without their end are worth telling apart, as downloads break off."""
    return "truncated-image" if "truncated" in str(error) else "unreadable-image"


@lru_cache(maxsize=1)
def _formats() -> tuple[str, ...]:
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def _beginning(source: Source) -> str:
    """The first bytes, which tell a web page or an LFS pointer from an image."""
    if isinstance(source, str):
        with Path(source).open("rb") as file:
            return repr(file.read(24)) or "nothing"
    source.seek(0)
    return repr(source.read(24))


def _orientation(image: Image.Image, settings: ImageSettings) -> int:
    """The EXIF orientation that is still to be applied, 1 to 8."""
    if not settings.exif or image.format == "TIFF":  # Pillow turns TIFF itself
        return 1
    if image.format == "PNG" and "exif" not in image.info:
        return 1  # Pillow would decode the pixels to look for a tag behind them
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    except _BROKEN:
        return 1  # viewers, and so those who drew the boxes, pass over unreadable EXIF
    return orientation if orientation in _TURNS else 1


def _rgb(image: Image.Image, background: tuple[int, int, int]) -> Image.Image:
    if image.mode.startswith("I;16"):
        image = _eight_bits(image)
    if not image.has_transparency_data:
        return image.convert("RGB")
    canvas = Image.new("RGBA", image.size, (*background, 255))
    canvas.alpha_composite(image.convert("RGBA"))
    return canvas.convert("RGB")


def _eight_bits(image: Image.Image) -> Image.Image:
    """The upper byte of 16 bits of grey, as Pillow's decoder does for colours."""
    values = np.asarray(image)
    grey = Image.fromarray((values >> 8).astype(np.uint8))
    transparent = image.info.get("transparency")
    if transparent is not None:
        alpha = Image.fromarray(np.where(values == transparent, 0, 255).astype(np.uint8))
        grey = Image.merge("LA", (grey, alpha))
    return grey
