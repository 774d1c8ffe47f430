"""Members of zip and tar files, without reading the directory of an archive for each of them."""

from __future__ import annotations

import lzma
import os
import struct
import tarfile
import threading
import zipfile
import zlib
from collections.abc import Callable
from functools import lru_cache
from typing import BinaryIO, Literal

from mllm.errors import ImageError

Kind = Literal["zip", "tar"]
OPEN_ARCHIVES = 16
"""As many are kept open in a process, with their directories in memory."""

_BROKEN = (
    *(zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, NotImplementedError, RuntimeError),
    *(ArithmeticError, struct.error, lzma.LZMAError),
)
"""Broken, encrypted (RuntimeError) or packed in an unknown way (NotImplementedError)."""


class Archive:
    """An archive that is open; `name` begins the messages about it.

    Raises:
        ImageError: not an archive of its kind.
    """

    def __init__(self, kind: Kind, file: BinaryIO, name: str) -> None:
        self.kind = kind
        self.file = file
        self.name = name
        self._lock = threading.Lock()  # the position in the file is one
        try:
            if kind == "zip":
                self._zip = zipfile.ZipFile(file)
            else:
                # "r:": plain tar only, as a compressed one would be unpacked from its start for each member
                with tarfile.open(fileobj=file, mode="r:") as tar:
                    self._plain = {
                        _plain(info.name): (info.offset_data, info.size)
                        for info in tar
                        if info.isreg() and not info.issparse()
                    }
        except _BROKEN as error:
            plain = "" if kind == "zip" else " (which must not be compressed)"
            reason = f"not a readable {kind} file{plain}: {error}"
            raise ImageError(reason, where=name, kind="unreadable-image") from error

    def read(self, member: str, max_bytes: int) -> bytes:
        """The bytes of a member.

        Raises:
            ImageError: no such member, one that is broken, or one of more than `max_bytes`.
        """
        where = f"{self.kind}://{member}::{self.name}"
        with self._lock:
            try:
                read = self._zipped if self.kind == "zip" else self._tarred
                data = read(member, max_bytes + 1)
            except KeyError as error:
                raise ImageError("the archive has no such file", where=where, kind="missing-image") from error
            except _BROKEN as error:
                raise ImageError(f"cannot be unpacked: {error}", where=where, kind="unreadable-image") from error
        if len(data) > max_bytes:
            raise ImageError(
                where=where,
                expected=f"at most {max_bytes / 1e6:g} MB (images.max_mb)",
                found="more",
                kind="unreadable-image",
            )
        return data

    def _zipped(self, member: str, limit: int) -> bytes:
        bare = _plain(member)
        # a table of bare names, as a tar has, would double the memory of a large directory
        stored = next((name for name in (member, bare, f"./{bare}") if name in self._zip.NameToInfo), member)
        with self._zip.open(self._zip.getinfo(stored)) as file:
            return file.read(limit)

    def _tarred(self, member: str, limit: int) -> bytes:
        start, size = self._plain[_plain(member)]
        self.file.seek(start)
        data = self.file.read(min(size, limit))
        if len(data) < min(size, limit):
            raise EOFError(f"the archive ends after {len(data)} of its {size} bytes")
        return data


def archive(kind: Kind, target: str, name: str, opened: Callable[[str], BinaryIO]) -> Archive:
    """The archive at `target`, opened by `opened` unless this process has it open already."""
    # not across a fork: processes would share the position in the file
    return _archive(kind, target, name, opened, os.getpid())


@lru_cache(maxsize=OPEN_ARCHIVES)
def _archive(kind: Kind, target: str, name: str, opened: Callable[[str], BinaryIO], process: int) -> Archive:
    return Archive(kind, opened(target), name)


def _plain(name: str) -> str:
    return name.removeprefix("./").lstrip("/")
