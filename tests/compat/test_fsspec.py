from __future__ import annotations

import asyncio
from typing import Any

from fsspec.asyn import AsyncFileSystem
from fsspec.implementations.memory import MemoryFileSystem

from mllm.compat import fsspec


def test_path_in_is_how_the_file_system_knows_a_url() -> None:
    assert fsspec.path_in(MemoryFileSystem(), "memory://folder/a.jpg") == "/folder/a.jpg"


def test_read_start_asks_for_a_range() -> None:
    class System(AsyncFileSystem):
        async def _cat_file(self, path: str, start: Any = None, end: Any = None, **options: Any) -> bytes:
            return f"{path} {start} {end}".encode()

    assert asyncio.run(fsspec.read_start(System(asynchronous=True), "a", 9)) == b"a 0 9"
