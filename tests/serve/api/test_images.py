"""The images of a request, and what keeps a server from fetching what it should not."""

from __future__ import annotations

import asyncio
import base64
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from typing import Any, ClassVar

import pytest

from mllm.images import web
from mllm.serve.api.images import ImageReader, SentImage
from mllm.serve.api.limits import Limits
from mllm.serve.api.problems import Problem
from tests.serve.api.running import data_url, painted


def read(url: str, *, urls: bool = False, **limits: Any) -> SentImage:
    return asyncio.run(ImageReader(limits=Limits(**limits), urls=urls).read(url, "url"))


def test_images_of_equal_bytes_are_equal() -> None:
    first, second, other = read(data_url(painted())), read(data_url(painted())), read(data_url(painted((30, 30))))
    assert first == second
    assert hash(first) == hash(second)
    assert first != other
    assert first.size == (60, 40)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("data:image/png;base64,!!!", "not base64"),
        ("data:image/png;base64,aGVsbG8=", "image"),
        ("data:image/png;base64,é", "not base64"),
        ("data:image/png,abc", "data URL with base64"),
        ("/etc/passwd", "data URL with base64"),
        ("file:///etc/passwd", "data URL with base64"),
        ("http://example.org/a.png", "fetches no images"),
        ("", "data URL with base64"),
    ],
)
def test_what_is_no_image(url: str, said: str) -> None:
    with pytest.raises(Problem, match=said) as error:
        read(url)
    assert (error.value.status, error.value.param) == (400, "url")


def test_an_image_of_too_many_pixels() -> None:
    with pytest.raises(Problem, match="100"):
        read(data_url(painted((50, 40))), max_pixels=100)


def test_a_cut_image() -> None:
    buffer = BytesIO()
    painted((300, 300)).save(buffer, "PNG")
    cut = base64.b64encode(buffer.getvalue()[:-200]).decode()
    with pytest.raises(Problem) as error:
        read(f"data:image/png;base64,{cut}").open()
    assert (error.value.code, error.value.param) == ("invalid_image", "url")


def test_the_scheme_of_a_data_url_may_be_in_capitals() -> None:
    assert read(data_url(painted()).replace("data:", "DATA:", 1)).size == (60, 40)


def test_a_request_holds_the_bytes_of_an_image_and_not_its_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    """16 images of 50 million pixels are 3 MB as PNG, and 2.4 GB in memory."""
    with monkeypatch.context() as patched:
        patched.setattr("mllm.serve.api.images.decode", lambda *_: pytest.fail("it was decoded"))
        held = read(data_url(painted()))
    assert held.size == (60, 40)
    assert held.open().getpixel((15, 15)) == (250, 20, 20)


PRIVATE = (
    *("http://127.0.0.1:{port}/image", "http://localhost:{port}/image", "http://0x7f.1:{port}/image"),
    *("http://2130706433:{port}/image", "http://[::1]:{port}/image", "http://[::ffff:127.0.0.1]:{port}/image"),
    *("http://10.0.0.1/", "http://169.254.169.254/latest/meta-data/", "http://100.64.0.1/", "http://[fec0::1]/"),
    *("http://[64:ff9b::7f00:1]/", "http://0.0.0.0:{port}/image", "http://[2002:7f00:1::]/"),
)


@pytest.mark.parametrize("url", PRIVATE)
def test_private_addresses_are_not_fetched(site: int, url: str) -> None:
    pytest.importorskip("aiohttp")
    with pytest.raises(Problem, match=r"public address, found a private one|not fetched"):
        read(url.format(port=site), urls=True, url_timeout_s=2)
    assert Site.asked == []


class Site(BaseHTTPRequestHandler):
    """A site that is taken for a public one, see `public`."""

    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        Site.asked.append(self.path)
        if self.path == "/image":
            buffer = BytesIO()
            painted().save(buffer, "PNG")
            return self._send(buffer.getvalue())
        if self.path == "/large":
            return self._send(b"x" * 3_000_000)
        if self.path == "/slow":
            self.send_response(200)
            self.end_headers()
            for _ in range(100):
                self.wfile.write(b"x")
                time.sleep(0.1)
            return None
        if self.path == "/missing":
            return self.send_error(404)
        to = {"/inside": "http://10.0.0.1/", "/file": "file:///etc/passwd", "/circle": "/circle"}[self.path]
        self.send_response(302)
        self.send_header("location", to)
        self.end_headers()
        return None

    def _send(self, data: bytes) -> None:
        self.send_response(200)
        self.send_header("set-cookie", "a=b")
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def site() -> Iterator[int]:
    Site.asked = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Site)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_address[1]
    server.shutdown()


@pytest.fixture
def public(site: int, monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of the site, which is taken for a public one."""
    pytest.importorskip("aiohttp")
    is_public = web.is_public
    monkeypatch.setattr(web, "is_public", lambda address: address == "127.0.0.1" or is_public(address))
    return f"http://127.0.0.1:{site}"


def test_an_image_at_a_public_address(public: str) -> None:
    assert read(f"{public}/image", urls=True) == read(data_url(painted()))


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("inside", "private"),
        ("file", "not fetched"),
        ("circle", "not fetched"),
        ("large", r"more than 1 MB \(url_mb\)"),
        ("slow", "within 0.5 seconds"),
        ("missing", "status 404"),
    ],
)
def test_what_a_public_address_may_not_do(public: str, path: str, said: str) -> None:
    began = time.monotonic()
    with pytest.raises(Problem, match=said):
        read(f"{public}/{path}", urls=True, url_mb=1.0, url_timeout_s=0.5)
    assert time.monotonic() - began < 5


def test_the_environments_proxy_is_not_asked(public: str, site: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{site}")
    with pytest.raises(Problem, match="private"):
        read("http://10.0.0.1/", urls=True)
    assert Site.asked == []
