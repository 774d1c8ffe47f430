"""Object storage for tests: moto's server, which speaks S3's protocol."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import fsspec
import pytest
from moto.server import ThreadedMotoServer


@contextmanager
def s3_on_loopback(bucket: str) -> Iterator[fsspec.AbstractFileSystem]:
    """S3 on loopback with this bucket, found as a user would point to it: by the environment."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as environment:
        for name, value in (
            ("AWS_ENDPOINT_URL", f"http://{host}:{port}"),
            ("AWS_ACCESS_KEY_ID", "me"),
            ("AWS_SECRET_ACCESS_KEY", "secret"),
            ("AWS_DEFAULT_REGION", "us-east-1"),
            ("NO_PROXY", "127.0.0.1"),
        ):
            environment.setenv(name, value)
        fsspec.get_filesystem_class("s3").clear_instance_cache()  # of a server before
        system = fsspec.filesystem("s3")
        system.mkdir(bucket)
        yield system
        type(system).clear_instance_cache()
    server.stop()
