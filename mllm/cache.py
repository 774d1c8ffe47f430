"""Files kept between runs, under `$MLLM_CACHE` or `~/.cache/mllm`. They may be deleted at any time."""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from mllm.errors import ConfigError


def cache_folder() -> Path:
    """`$MLLM_CACHE`, or `~/.cache/mllm`; it need not exist yet."""
    return Path(os.environ.get("MLLM_CACHE") or Path.home() / ".cache" / "mllm")


@contextmanager
def one_at_a_time(target: Path) -> Generator[None, None, None]:
    """Of several processes of a machine that make the same file one does, while the others wait.

    Raises:
        ConfigError: the cache cannot be written.
    """
    lock = target.parent / f"{target.name}.lock"
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        file = lock.open("ab")
    except OSError as error:
        reason = f"the cache cannot be written (MLLM_CACHE names another): {error.strerror or error}"
        raise ConfigError(reason, where=str(target.parent)) from error
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def complete(target: Path, what: str) -> Generator[BinaryIO, None, None]:
    """A file that takes its name once it is complete, so that several processes may make the same one at once.

    Others may read it, as far as the umask lets them: a team may share a cache that one of them made.

    Raises:
        ConfigError: it cannot be written; the message calls it `what`.
    """
    part = target.parent / f"{target.name}.{os.getpid()}.{secrets.token_hex(4)}"
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with part.open("xb") as file:  # readable by others as far as the umask says, unlike a mkstemp
            yield file
        os.replace(part, target)
    except OSError as error:
        reason = f"the cache of {what} cannot be written (MLLM_CACHE names another): {error.strerror or error}"
        raise ConfigError(reason, where=str(target.parent)) from error
    finally:
        with suppress(OSError):  # of the folder that could not be made
            part.unlink()
