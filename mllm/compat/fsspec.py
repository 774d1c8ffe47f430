"""fsspec: bounded reads of a URL on a file system whose class is known only at run time."""

from __future__ import annotations

from typing import Any

from mllm.compat.names import member


def path_in(system: Any, url: str) -> str:
    """The path by which a file system knows a URL."""
    return member(system, "_strip_protocol")(url)


async def read_start(system: Any, path: str, limit: int) -> bytes:
    """The first `limit` bytes of a file on an asynchronous file system."""
    return await member(system, "_cat_file")(path, start=0, end=limit)
