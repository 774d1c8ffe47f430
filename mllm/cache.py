"""Files kept between runs, under `$MLLM_CACHE` or `~/.cache/mllm`. They may be deleted at any time."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from mllm.errors import ConfigError


def cache_folder() -> Path:
    """`$MLLM_CACHE`, or `~/.cache/mllm`; it need not exist yet."""
    return Path(os.environ.get("MLLM_CACHE") or Path.home() / ".cache" / "mllm")


@contextmanager
def complete(target: Path, what: str) -> Generator[BinaryIO, None, None]:
    """A file that takes its name once it is complete, so that several processes may make the same one at once.

    Raises:
        ConfigError: it cannot be written; the message calls it `what`.
    """
    name = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=f"{target.name}.")
        with os.fdopen(descriptor, "wb") as file:
            yield file
        os.replace(name, target)
    except OSError as error:
        reason = f"the cache of {what} cannot be written (MLLM_CACHE names another): {error.strerror or error}"
        raise ConfigError(reason, where=str(target.parent)) from error
    finally:
        if name is not None:
            Path(name).unlink(missing_ok=True)
