"""Fetched images, and features of images, on disk, up to a number of bytes. Processes may share a folder."""

from __future__ import annotations

import fcntl
import hashlib
import os
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

from mllm.cache import complete
from mllm.errors import ConfigError

_UNFINISHED_SECONDS = 3600.0
"""Age at which a file without its final name was left by a process that died."""

_CLOCKS = 1.0
"""Seconds by which the clock that stamps files may be behind."""


class DiskCache:
    """Bytes by name, in files called by the SHA-256 of the name. Those unused for longest leave first.

    All entries together stay within `max_bytes`; one that alone is larger is not kept.

    Args:
        what: what messages call the entries, and `setting` what names another folder.
        lasting: entries used since this cache was made never leave. Where all is read again and again in changing
            order, as in epochs, the one unused for longest is soon due; once the cache is full nothing more is kept.
    """

    def __init__(
        self,
        folder: Path,
        max_bytes: int,
        *,
        what: str = "images",
        setting: str = "images.cache",
        lasting: bool = False,
    ) -> None:
        self.folder = folder
        self.max_bytes = max_bytes
        self.what = what
        self.setting = setting
        self._since = time.time() - _CLOCKS if lasting else None
        self._full = False

    def get(self, name: str) -> bytes | None:
        """The bytes kept under a name, which counts as a use.

        Raises:
            ConfigError: the folder belongs to somebody else.
        """
        path = self._path(name)
        try:
            data = path.read_bytes()
            with suppress(PermissionError):  # somebody else's, who shares it
                os.utime(path)
        except FileNotFoundError:  # also when another process removes it now
            return None
        except OSError as error:
            reason = f"cannot be read ({self.setting} names another): {error.strerror}"
            raise ConfigError(reason, where=str(path)) from error
        return data

    def put(self, name: str, data: bytes) -> None:
        """Keep bytes, and make room for them.

        Raises:
            ConfigError: the folder cannot be written.
        """
        if len(data) > self.max_bytes or self._full:
            return
        path = self._path(name)
        with complete(path, self.what) as file:
            file.write(data)
        with self._total() as total:
            total[0] += len(data)
            if total[0] > self.max_bytes:
                total[0] = self._shrink(keep=path)

    def drop(self, name: str) -> None:
        self._path(name).unlink(missing_ok=True)

    def _path(self, name: str) -> Path:
        key = hashlib.sha256(name.encode()).hexdigest()
        return self.folder / key[:2] / key

    @contextmanager
    def _total(self) -> Generator[list[int], None, None]:
        """The bytes of all entries, as one number to read and change; other processes wait meanwhile."""
        descriptor = os.open(self.folder / "total", os.O_RDWR | os.O_CREAT, 0o644)
        with os.fdopen(descriptor, "r+") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            written = file.read()
            # no number yet, or the process that wrote it died: count what is there
            total = [int(written) if written.isdecimal() else self.max_bytes + 1]
            yield total
            file.seek(0)
            file.truncate()
            file.write(str(total[0]))

    def _shrink(self, keep: Path) -> int:
        """Remove the entries unused for longest until nine tenths are left; the bytes that stay."""
        entries: list[tuple[float, int, str]] = []
        now = time.time()
        for folder in os.scandir(self.folder):
            if not folder.is_dir():
                continue
            for entry in os.scandir(folder.path):
                with suppress(FileNotFoundError):
                    status = entry.stat()
                    if "." not in entry.name or now - status.st_mtime > _UNFINISHED_SECONDS:
                        entries.append((status.st_mtime, status.st_size, entry.path))
        left = sum(size for _, size, _ in entries)
        if left <= self.max_bytes:
            return left
        for used, size, path in sorted(entries):
            if left <= 0.9 * self.max_bytes:
                break
            if path != str(keep) and (self._since is None or used < self._since):
                Path(path).unlink(missing_ok=True)
                left -= size
        if left > self.max_bytes:
            self._full = True
            left -= keep.stat().st_size
            keep.unlink()
        return left
