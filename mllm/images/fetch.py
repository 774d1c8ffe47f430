"""The bytes of an image, wherever it lies: over the network by fsspec, in an archive, in ceph.

Every fetch is bounded in time, tries and bytes. Credentials come from the environment (`AWS_*`, `FSSPEC_*`, `~/.aws`),
never from a config or a URL in a message.
"""

from __future__ import annotations

import asyncio
import importlib
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, TypeVar, cast

from mllm.compat.fsspec import library_errors, path_in, read_start, to_install
from mllm.errors import ConfigError, DataError, ImageError
from mllm.images import web
from mllm.images.archives import Kind, archive
from mllm.images.decode import check_kind
from mllm.images.settings import ImageSettings, current_settings

T = TypeVar("T")

_MEMBER = re.compile(r"(zip|tar)://(.*?)::(.+)", re.DOTALL)
_CEPH = re.compile(r"([\w-]+:(petrel|s3)|petrel)://.+", re.DOTALL)
_PROTOCOL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://.+", re.DOTALL)

_PAUSE_SECONDS = 0.5
"""Before the second try; twice as long before each further one."""
_CHUNK_BYTES = 1 << 16
_RETRIED_STATUS = (408, 425, 429)
"""The answers of an http server below 500 that another try may change. Source: RFC 9110, 8470, 6585."""
_FINAL = ("NoCredentialsError", "PartialCredentialsError", "ParamValidationError")
"""Names of botocore's errors, no OSError, that come before anything is asked."""


def is_url(source: str) -> bool:
    return "://" in source


def member_of(url: str) -> tuple[Kind, str, str] | None:
    """(kind, member, archive) of `zip://member::archive`, fsspec's way to write it; None for other URLs."""
    match = _MEMBER.fullmatch(url)
    return (cast("Kind", match[1]), match[2], match[3]) if match else None


def check_url(url: str) -> None:
    """Refuse what annotations may not name.

    Raises:
        DataError: a protocol that is not among the settings' `protocols`, or a chain that is no archive's member.
    """
    member = member_of(url)
    if member:
        if _CEPH.fullmatch(member[2]):
            reason = "archives in ceph are not read; unpack it, or copy it to a disk"
            raise DataError(reason, where=redacted(url), kind="image-path")
        if is_url(member[2]):
            check_url(member[2])
        return
    protocol = "petrel" if _CEPH.fullmatch(url) else _protocol(url)
    if protocol not in current_settings().protocols:
        raise DataError(
            "data_args.images.protocols allows others (zip:// and tar:// as zip://member::archive)",
            where=redacted(url),
            expected=f"a protocol among {', '.join(current_settings().protocols)}",
            found=f"{protocol}://",
            kind="image-path",
        )


def local_archive(url: str) -> str | None:
    """The path of the archive on this disk that it is a member of: then nothing is fetched."""
    member = member_of(url)
    return member[2] if member is not None and not is_url(member[2]) else None


def redacted(url: str) -> str:
    """A URL for messages and logs, without what may be a password or a signature."""
    bare, query, _ = url.partition("?")
    return re.sub(r"://[^/@]*@", "://", bare) + ("?..." if query else "")


def fetch(url: str) -> bytes:
    """The bytes at a URL, fetched now.

    Raises:
        ImageError: no such file, none in all tries, or larger than `max_mb`.
        ConfigError: the library that speaks its protocol is not installed.
    """
    current = current_settings()
    member = member_of(url)
    if member is None:
        return _persistently(url, _protocol(url), current, lambda: _read(url, current))
    kind, inner, target = member

    def read(opened: Callable[[str], BinaryIO]) -> bytes:
        return archive(kind, target, redacted(target), opened).read(inner, current.max_bytes)

    if is_url(target):
        return _persistently(target, _protocol(target), current, lambda: read(_open_remote))
    try:
        return read(_open_local)
    except FileNotFoundError as error:
        raise ImageError("no such file", where=target, kind="missing-image") from error
    except (OSError, ValueError) as error:  # also of what a broken archive says of places in itself
        raise _unfetched(target, f"cannot be read: {error}") from error


def _protocol(url: str) -> str:
    match = _PROTOCOL.fullmatch(url)
    return match[1].lower() if match else url.split(":", 1)[0]


def _persistently(url: str, protocol: str, current: ImageSettings, read: Callable[[], T]) -> T:
    """Read, and read again after what may pass: timeouts, broken connections, errors of the server."""
    faults = (OSError, ValueError, asyncio.TimeoutError, *library_errors(protocol))
    tries = current.retries + 1
    for attempt in range(tries):
        try:
            return read()
        except faults as raised:
            error = raised
            if private := web.not_public(error):
                reason = f"{private}; data_args.images.allow_private=True fetches from it all the same"
                raise ImageError(reason, where=redacted(url), kind="private-address") from error
            while isinstance(error, FileNotFoundError) and isinstance(error.__cause__, faults):
                error = error.__cause__  # fsspec says so of anything that keeps it from asking for the size
            if _is_missing(error):
                raise ImageError("no such file", where=redacted(url), kind="missing-image") from error
            if _is_final(error):
                raise _unfetched(url, f"cannot be fetched: {_described(error, current)}") from error
            if attempt + 1 == tries:
                times = "1 try" if tries == 1 else f"{tries} tries"
                raise _unfetched(url, f"not fetched in {times}: {_described(error, current)}") from error
        time.sleep(_PAUSE_SECONDS * 2**attempt)
    raise AssertionError("the last try returns or raises")


def _unfetched(url: str, reason: str) -> ImageError:
    return ImageError(reason, where=redacted(url), kind="unreadable-image")


def _is_missing(error: Exception) -> bool:
    return isinstance(error, FileNotFoundError) or getattr(error, "status", None) in (404, 410)


def _is_final(error: Exception) -> bool:
    status = getattr(error, "status", None)
    refused = isinstance(status, int) and 400 <= status < 500 and status not in _RETRIED_STATUS
    # a ValueError: no such URL can be, or the server cannot read a part of a file, as archives need
    return (
        refused or type(error).__name__ in _FINAL or isinstance(error, (PermissionError, IsADirectoryError, ValueError))
    )


def _described(error: Exception, current: ImageSettings) -> str:
    if isinstance(error, (TimeoutError, asyncio.TimeoutError)):
        return f"it took more than {current.timeout:g} seconds (images.timeout)"
    status = getattr(error, "status", None)
    if isinstance(status, int):
        return f"the server answered {status} {getattr(error, 'message', '')}".rstrip()
    said = " ".join(str(error).split())  # botocore's take several lines
    return f"{type(error).__name__}: {redacted(said)}" if said else type(error).__name__


def _read(url: str, current: ImageSettings) -> bytes:
    limit = current.max_bytes
    if _CEPH.fullmatch(url):
        from mllm.images import ceph  # mmengine's file clients are loaded only where they are used

        data = ceph.read(url)
    else:
        from fsspec.asyn import AsyncFileSystem, sync

        system: Any = _file_system(_protocol(url), current)
        path = path_in(system, url)
        if not isinstance(system, AsyncFileSystem):
            data = cast("bytes", system.cat_file(path, start=0, end=limit + 1))
        else:
            read = _read_http if _protocol(url) in ("http", "https") else read_start
            data = cast("bytes", sync(system.loop, read, system, path, limit + 1, timeout=current.timeout))
    if len(data) > limit:
        raise _unfetched(url, f"more than {current.max_mb:g} MB (images.max_mb)")
    return data


async def _read_http(system: Any, url: str, limit: int) -> bytes:
    """As it streams: a server need not keep to a range, nor to an end."""
    session = await system.set_session()
    data = bytearray()
    async with session.get(system.encode_url(url)) as response:
        response.raise_for_status()
        async for chunk in response.content.iter_chunked(_CHUNK_BYTES):
            data += chunk
            if len(data) >= limit:
                break
    return bytes(data[:limit])


def _file_system(protocol: str, current: ImageSettings) -> Any:
    """fsspec's own, which it keeps for each process."""
    import fsspec  # with its protocols' libraries half a second, that runs on local images need not spend

    options: dict[str, Any] = {}
    if protocol in ("s3", "s3a"):
        # botocore's tries would multiply ours
        waits = {"connect_timeout": current.timeout, "read_timeout": current.timeout, "retries": {"max_attempts": 0}}
        options["config_kwargs"] = waits
    try:
        if protocol in ("http", "https"):
            timeout = importlib.import_module("aiohttp").ClientTimeout(total=current.timeout)
            options["client_kwargs"] = {"timeout": timeout, "trust_env": True}  # proxies of the environment
            if not current.allow_private:
                options["get_client"] = web.public_session
        return fsspec.filesystem(protocol, **options)
    except ImportError as error:
        hint = to_install(protocol, error)
        raise ConfigError(f"{protocol}:// images need a library that is not installed: {hint}") from error
    except ValueError as error:
        raise ConfigError(str(error), field="data_args.images.protocols") from error


def _open_remote(target: str) -> BinaryIO:
    """A file that fetches the blocks that are read."""
    system = _file_system(_protocol(target), current_settings())
    return system.open(path_in(system, target), "rb")


def _open_local(target: str) -> BinaryIO:
    check_kind(target, target)
    return Path(target).open("rb")
