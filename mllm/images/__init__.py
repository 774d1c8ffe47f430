"""References to images: cheap to hold, compare and send to a worker; opened only when pixels are needed.

Two equal references are the same image: a batch holds its pixels once. Whatever an image is stored as, `open` gives
it upright and RGB, and `size` is the size of that (see `decode`); where it lies is `fetch`'s matter.
"""

from __future__ import annotations

import os
import posixpath
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from inspect import getattr_static
from io import BytesIO
from pathlib import Path
from typing import Protocol, TypeGuard, TypeVar, cast

from PIL import Image

from mllm.errors import DataError, ImageError
from mllm.fields import show
from mllm.images import decode, fetch
from mllm.images.cache import DiskCache
from mllm.images.settings import ImageSettings, current_settings

T = TypeVar("T")

KNOWN_SIZES = 65536
"""As many sizes are remembered in a process."""
IN_MEMORY = "an image in memory"
"""How messages call what has no name."""


class ImageRef(Protocol):
    """An image that can be opened. Hashable; equal references are one image."""

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels, without decoding where that is possible."""
        ...

    def open(self) -> Image.Image:
        """The decoded image, upright, mode RGB."""
        ...


class Reducible(ImageRef, Protocol):
    """An image that may be decoded at a part of its size."""

    def open_reduced(self, at_least: tuple[int, int]) -> Image.Image:
        """As `open`, or a half, a quarter or an eighth as large, rounded up, but no smaller than `at_least`."""
        ...


@dataclass(frozen=True, slots=True)
class FileImage:
    """An image file on a local disk. No link may lead out of its `folder`, where it has one, see `follow_links`."""

    path: str
    folder: str = field(default="", compare=False, repr=False)

    @property
    def size(self) -> tuple[int, int]:
        key = self.path, current_settings()
        if key not in _sizes:
            _check_links(self.path, self.folder)
            _remember(key, decode.size_of(self.path, *key))
        return _sizes[key]

    def open(self) -> Image.Image:
        key = self.path, current_settings()
        _check_links(self.path, self.folder)
        image = decode.decode(self.path, *key)
        _remember(key, image.size)
        return image

    def open_reduced(self, at_least: tuple[int, int]) -> Image.Image:
        _check_links(self.path, self.folder)
        return decode.decode(self.path, self.path, current_settings(), at_least=at_least)


@dataclass(frozen=True, slots=True)
class UrlImage:
    """An image at a URL (http, https, s3, ...), or in an archive (`zip://member::archive`, `tar://...`).

    What was fetched is kept on disk once it proved to be a whole image. `folder` is that of a local archive.
    """

    url: str
    folder: str = field(default="", compare=False, repr=False)

    @property
    def size(self) -> tuple[int, int]:
        key = self.url, current_settings()
        if key not in _sizes:
            _remember(key, self._read(decode.size_of, lambda image: image.size))
        return _sizes[key]

    def open(self) -> Image.Image:
        image = self._read(decode.decode, lambda image: image)
        _remember((self.url, current_settings()), image.size)
        return image

    def open_reduced(self, at_least: tuple[int, int]) -> Image.Image:
        """Whole when it is fetched, as only that shows that it is."""
        return self._read(partial(decode.decode, at_least=at_least), lambda image: image)

    def _read(self, kept: Callable[[BytesIO, str, ImageSettings], T], fetched: Callable[[Image.Image], T]) -> T:
        """`kept` of the bytes on this disk; else `fetched` of the whole image, which is kept from now on."""
        url, current = self.url, current_settings()
        name = fetch.redacted(url)
        if archive := fetch.local_archive(url):
            _check_links(archive, self.folder)
            return kept(BytesIO(fetch.fetch(url)), name, current)
        folder = current.cache_path
        cache = DiskCache(folder, int(current.cache_gb * 1e9)) if folder else None
        data = cache.get(url) if cache else None
        if data is not None and cache is not None:
            try:
                return kept(BytesIO(data), name, current)
            except ImageError:  # a disk that failed: what was kept had been decoded before
                cache.drop(url)
        data = fetch.fetch(url)
        image = decode.decode(BytesIO(data), name, current)
        if cache is not None:
            cache.put(url, data)
        return fetched(image)


@dataclass(frozen=True, slots=True, eq=False)
class MemoryImage:
    """An image already in memory; equal only to itself."""

    image: Image.Image = field(repr=False)

    @property
    def size(self) -> tuple[int, int]:
        decode.check_header(self.image, IN_MEMORY, current_settings())
        return decode.upright_size(self.image, current_settings())

    def open(self) -> Image.Image:
        decode.check_header(self.image, IN_MEMORY, current_settings())
        return decode.upright_rgb(self.image, IN_MEMORY, current_settings())


@dataclass(frozen=True, slots=True)
class Video:
    """Frames in order behind one `<image>`; its size, and its boxes, are those of the first."""

    frames: tuple[ImageRef, ...]

    @property
    def size(self) -> tuple[int, int]:
        return self.frames[0].size

    def open(self) -> Image.Image:
        """The first frame."""
        return self.frames[0].open()


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoFrame:
    """A frame of a video, which is an image of its own that has a time.

    Attributes:
        time: seconds from the beginning.
        duration: of the video in seconds, None where that is not known.
    """

    ref: ImageRef
    time: float
    duration: float | None = None

    @property
    def size(self) -> tuple[int, int]:
        return self.ref.size

    def open(self) -> Image.Image:
        return self.ref.open()

    def open_reduced(self, at_least: tuple[int, int]) -> Image.Image:
        """As `Reducible`, where the image of the frame is one; else as `open`."""
        return self.ref.open_reduced(at_least) if is_reducible(self.ref) else self.ref.open()


def is_ref(value: object) -> TypeGuard[ImageRef]:
    """Whether a value is a reference. Its size, which may have to be read from a file, is not asked for."""
    return all(getattr_static(value, name, None) is not None for name in ("size", "open"))


def is_reducible(ref: ImageRef) -> TypeGuard[Reducible]:
    return hasattr(ref, "open_reduced")


def image_ref(source: object, folder: str | None = None) -> ImageRef:
    """The reference for what a dataset wrote: a path (under `folder`), a URL, a PIL image or a reference.

    `folder` may be a URL too: `s3://bucket/photos`, or `zip://photos::photos.zip`, the folder `photos` of an archive
    (`zip://::photos.zip`: all of it). The archive of `zip://a.jpg::photos.zip` is looked for under `folder`.
    A list of such sources is a video, frame by frame.

    Raises:
        DataError: any other type, a video without frames, a path that leaves `folder`, or a URL of a protocol that is
            not opened.
    """
    if isinstance(source, Image.Image):
        return MemoryImage(source)
    if isinstance(source, (str, Path)):
        return _located(str(source), folder or "")
    if is_ref(source):
        return source
    if isinstance(source, (list, tuple)):
        if not source:
            raise DataError(expected="the frames of a video", found="an empty list", kind="missing-image")
        return Video(tuple(image_ref(frame, folder) for frame in cast("Sequence[object]", source)))
    raise DataError(expected="a path, a URL or a PIL image", found=show(source), kind="image-path")


def is_remote(ref: ImageRef) -> bool:
    """Whether its size may have to come from elsewhere; the same in every process, whatever its cache holds."""
    if isinstance(ref, Video):
        return is_remote(ref.frames[0])
    inner = getattr(ref, "ref", None)
    if inner is not None:  # of an image that is made of another
        return is_remote(inner)
    return isinstance(ref, UrlImage) and not fetch.local_archive(ref.url)


def _located(source: str, folder: str) -> ImageRef:
    member = fetch.member_of(source)
    if member and not fetch.is_url(member[2]):
        kind, inner, archive = member
        if fetch.is_url(folder):
            if fetch.member_of(folder):
                raise DataError(f"an archive inside the archive {folder}; unpack it", where=source, kind="image-path")
            archive = _under_url(archive, folder)
        else:
            return UrlImage(f"{kind}://{inner}::{_under(archive, folder)}", _folder_of(archive, folder))
        source = f"{kind}://{inner}::{archive}"
    elif not fetch.is_url(source):
        if not fetch.is_url(folder):
            return FileImage(_under(source, folder), _folder_of(source, folder))
        outer = fetch.member_of(folder)
        source = f"{outer[0]}://{_under_url(source, outer[1])}::{outer[2]}" if outer else _under_url(source, folder)
    fetch.check_url(source)
    return UrlImage(source)


def _under(path: str, folder: str) -> str:
    """A local path under a folder, or an absolute one as it stands."""
    if folder and not path.startswith("/") and _leaves(path):
        raise DataError(f"leaves its image_folder {folder}", where=path, kind="image-path")
    return str(Path(folder) / path)


def _folder_of(path: str, folder: str) -> str:
    """The folder that a path must not leave; none for one that does not begin there."""
    return "" if path.startswith("/") else folder


def _check_links(path: str, folder: str) -> None:
    """
    Raises:
        DataError: a link leads out of the folder.
    """
    if not folder or current_settings().follow_links:
        return
    try:
        real, root = os.path.realpath(path), _real_folder(folder)
    except ValueError:  # no file has such a name: who opens it says so
        return
    if os.path.commonpath((real, root)) != root:
        raise DataError(
            f"a link leads out of its image_folder {folder}; data_args.images.follow_links=True follows it",
            where=path,
            kind="image-path",
        )


@lru_cache(maxsize=64)
def _real_folder(folder: str) -> str:
    return os.path.realpath(folder)


def _under_url(path: str, folder: str) -> str:
    if path.startswith("/") or _leaves(path):
        expected = f"a path relative to image_folder {fetch.redacted(folder) or '(the archive)'}"
        raise DataError(where=path, expected=expected, kind="image-path")
    return f"{folder.rstrip('/')}/{posixpath.normpath(path)}" if folder else posixpath.normpath(path)


def _leaves(path: str) -> bool:
    return posixpath.normpath(path).split("/", 1)[0] == ".."


_sizes: dict[tuple[str, ImageSettings], tuple[int, int]] = {}
"""Of files and URLs that this process opened: their sizes are asked for next, and must not read or fetch them again."""


def _remember(key: tuple[str, ImageSettings], size: tuple[int, int]) -> None:
    if len(_sizes) >= KNOWN_SIZES:
        _sizes.clear()
    _sizes[key] = size
