"""fsspec: bounded reads of a URL on a file system whose class is known only at run time; its libraries' errors."""

from __future__ import annotations

import importlib

from mllm.compat.names import member

_S3 = (("botocore.exceptions", "BotoCoreError"),)
_GOOGLE = (
    *(("gcsfs.retry", "HttpError"), ("google.auth.exceptions", "GoogleAuthError")),
    ("aiohttp", "ClientError"),
)
_AZURE = (("azure.core.exceptions", "AzureError"),)
_HTTP = (("aiohttp", "ClientError"),)
_OWN_ERRORS = {
    **{"http": _HTTP, "https": _HTTP, "s3": _S3, "s3a": _S3, "gs": _GOOGLE, "gcs": _GOOGLE},
    **{"az": _AZURE, "abfs": _AZURE, "abfss": _AZURE},
}
"""Protocol -> the base classes of its libraries' errors, where those are no OSError."""
_PACKAGES = {
    **dict.fromkeys(("http", "https", "s3", "s3a"), "'mllm[remote]'"),
    **dict.fromkeys(("gs", "gcs"), "gcsfs"),
    **dict.fromkeys(("az", "abfs", "abfss"), "adlfs"),
}


def path_in(system: object, url: str) -> str:
    """The path by which a file system knows a URL."""
    return member(system, "_strip_protocol")(url)


async def read_start(system: object, path: str, limit: int) -> bytes:
    """The first `limit` bytes of a file on an asynchronous file system."""
    return await member(system, "_cat_file")(path, start=0, end=limit)


def library_errors(protocol: str) -> tuple[type[Exception], ...]:
    """What the libraries of a protocol raise that is no OSError; nothing of those that are not installed."""
    found: list[type[Exception]] = []
    for module, name in _OWN_ERRORS.get(protocol, ()):
        try:
            found.append(getattr(importlib.import_module(module), name))
        except ImportError:  # then the file system cannot be built either, which says what to install
            continue
    return tuple(found)


def to_install(protocol: str, error: ImportError) -> str:
    """The command that installs what a protocol needs; for one that is not known, what fsspec's error says."""
    return f"pip install {_PACKAGES[protocol]}" if protocol in _PACKAGES else str(error)
