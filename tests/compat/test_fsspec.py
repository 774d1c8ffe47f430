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


def test_library_errors_are_those_of_libraries_that_are_installed() -> None:
    from botocore.exceptions import NoCredentialsError

    assert issubclass(NoCredentialsError, fsspec.library_errors("s3"))
    assert fsspec.library_errors("az") == fsspec.library_errors("file") == ()


def test_to_install_is_a_command_or_what_fsspec_says() -> None:
    assert fsspec.to_install("s3", ImportError("s3fs")) == "pip install 'mllm[remote]'"
    assert fsspec.to_install("box", ImportError("install boxfs")) == "install boxfs"
