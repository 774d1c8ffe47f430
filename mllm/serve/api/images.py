"""The images of a request: data URLs, and if the server allows it those at public addresses."""

from __future__ import annotations

import asyncio
import hashlib
import importlib
import re
from base64 import b64decode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

from PIL import Image

from mllm.errors import ConfigError, ImageError
from mllm.images import web
from mllm.images.decode import decode, size_of
from mllm.images.settings import ImageSettings
from mllm.serve.api.limits import Limits
from mllm.serve.api.problems import Problem

DATA_URL = re.compile(r"data:(?P<type>[\w.+-]+/[\w.+-]+)?(;[\w-]+=[\w-]+)*;base64,", re.ASCII | re.IGNORECASE)
REDIRECTS = 3
CHUNK = 1 << 16
IMAGE_LABEL = "the image"


@dataclass(frozen=True, slots=True, kw_only=True)
class SentImage:
    """An image that a client sent; equal to others of the same bytes, so that one reading serves them.

    It is decoded when it is opened: what a few bytes unpack to would fill the memory, if all requests held it.
    """

    digest: str
    size: tuple[int, int] = field(compare=False)
    data: bytes = field(compare=False, repr=False)
    place: str = field(compare=False)
    """In the request."""
    settings: ImageSettings = field(compare=False, repr=False)

    def open(self) -> Image.Image:
        """
        Raises:
            Problem: its pixels cannot be read.
        """
        with naming(self.place):
            return decode(BytesIO(self.data), IMAGE_LABEL, self.settings)


@contextmanager
def naming(place: str) -> Iterator[None]:
    """
    Raises:
        Problem: in place of an `ImageError`; names the `place` in the request.
    """
    try:
        yield
    except ImageError as error:
        raise Problem(400, f"{place}: {error.reason}", param=place, code="invalid_image") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageReader:
    """Reads what `image_url` names.

    `urls`: whether http and https are fetched, from public addresses.
    """

    limits: Limits
    urls: bool = False

    async def read(self, url: str, place: str) -> SentImage:
        """
        Raises:
            Problem: no image by its header, too large, or at an address that is not fetched; names the
                `place` in the request.
        """
        data = await self._bytes(url, place)
        settings = ImageSettings(max_pixels=self.limits.max_pixels)

        with naming(place):
            size = size_of(BytesIO(data), IMAGE_LABEL, settings)
        digest = hashlib.sha256(data).hexdigest()
        return SentImage(digest=digest, size=size, data=data, place=place, settings=settings)

    async def _bytes(self, url: str, place: str) -> bytes:
        if match := DATA_URL.match(url):
            try:
                return b64decode(url[match.end() :], validate=True)
            except ValueError as error:  # binascii's, or not of ASCII
                raise Problem(400, f"{place}: the data URL is not base64: {error}", param=place) from error
        if not url.lower().startswith(("http://", "https://")):
            kinds = "a data URL with base64, or http(s)" if self.urls else "a data URL with base64"
            raise Problem(400, f"{place}: expected {kinds}, found {url[:40]!r}", param=place, code="invalid_image_url")
        if not self.urls:
            message = f"{place}: this server fetches no images from URLs; send the image as a data URL with base64"
            raise Problem(400, message, param=place, code="urls_not_allowed")
        try:
            async with asyncio.timeout(self.limits.url_timeout_s):
                return await fetch_public(url, int(self.limits.url_mb * 1e6))
        except (OSError, ValueError, TimeoutError, _client_error()) as error:
            raise Problem(400, f"{place}: {_why(error, self.limits)}", param=place, code="image_not_fetched") from error


async def fetch_public(url: str, limit: int) -> bytes:
    """The bytes at an http(s) URL, at most `limit`, from public addresses, each redirect included; without cookies.

    Raises:
        OSError, ValueError, aiohttp.ClientError: it cannot be fetched; `NotPublicError` behind some.
    """
    aiohttp: Any = _aiohttp()
    async with (
        await web.public_session(proxies=False, cookie_jar=aiohttp.DummyCookieJar()) as session,
        session.get(url, max_redirects=REDIRECTS) as response,
    ):
        response.raise_for_status()
        data = bytearray()
        async for chunk in response.content.iter_chunked(CHUNK):
            data += chunk
            if len(data) > limit:
                raise ValueError(f"more than {limit / 1e6:g} MB (url_mb)")
    return bytes(data)


def _why(error: Exception, limits: Limits) -> str:
    if web.not_public(error):
        return "expected an image at a public address, found a private one"
    if isinstance(error, TimeoutError):
        return f"the image was not fetched within {limits.url_timeout_s:g} seconds (url_timeout_s)"
    if isinstance(error, ValueError):
        return f"the image was not fetched: {str(error)[:200]}"
    status = getattr(error, "status", None)
    return f"the image was not fetched: {f'status {status}' if status else type(error).__name__}"


def _client_error() -> type[Exception]:
    return _aiohttp().ClientError


def _aiohttp() -> Any:
    try:
        return importlib.import_module("aiohttp")
    except ImportError as error:
        raise ConfigError("images from URLs need aiohttp: pip install 'mllm[remote]'", where="--allow_urls") from error
