"""What http may not reach, however it is spelt: against real servers on loopback, which is not public."""

from __future__ import annotations

import socket
import threading
import zipfile
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from mllm.errors import ImageError
from mllm.images import UrlImage, web
from mllm.images.settings import ImageSettings, configure
from mllm.images.web import is_public

PUBLIC = ("8.8.8.8", "1.1.1.1", "2606:4700:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808", "2002:808:808::1")
PRIVATE = (
    *(
        "127.0.0.1",
        "127.1.2.3",
        "0.0.0.0",
        "10.0.0.1",
        "172.16.0.1",
        "172.31.255.255",
        "192.168.1.1",
        "169.254.169.254",
    ),
    *("100.64.0.1", "192.0.0.1", "198.18.0.1", "224.0.0.1", "240.0.0.1", "255.255.255.255", "::1", "::", "fe80::1"),
    *("fe80::1%eth0", "fc00::1", "fd00:ec2::254", "ff02::1", "::ffff:127.0.0.1", "::ffff:169.254.169.254"),
    *("64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "2002:7f00:1::", "2002:c0a8:101::", "2001:db8::1", "::127.0.0.1"),
)


@pytest.mark.parametrize("address", PUBLIC)
def test_is_public_of_public_addresses(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize("address", PRIVATE)
def test_is_public_of_others(address: str) -> None:
    assert not is_public(address)


class Server(ThreadingHTTPServer):
    """Serves `data`, or redirects to `/to/URL`; counts what was asked for."""

    daemon_threads = True

    def __init__(self, data: bytes) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        self.data = data
        self.asked: list[str] = []


class Answers(BaseHTTPRequestHandler):
    server: Server  # pyright: ignore[reportIncompatibleVariableOverride]

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        if self.path.startswith("/to/"):
            self.send_response(302)
            self.send_header("Location", self.path.removeprefix("/to/"))
            self.end_headers()
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.server.data)))
        self.end_headers()
        self.wfile.write(self.server.data)

    do_HEAD = do_GET

    def log_message(self, format: str, *args: object) -> None: ...


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[bytes], Server]]:
    monkeypatch.setenv("NO_PROXY", "*")
    running: list[tuple[Server, threading.Thread]] = []

    def start(data: bytes) -> Server:
        server = Server(data)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        running.append((server, thread))
        return server

    yield start
    for server, thread in running:
        server.shutdown()
        server.server_close()
        thread.join()


REFUSED = r"is not a public address; data_args\.images\.allow_private=True fetches from it all the same"
HOSTS = ("127.0.0.1", "localhost", "LOCALHOST.", "2130706433", "0x7f.1", "0177.0.0.1", "127.1", "0.0.0.0", "0")
"""Spellings of this machine that its C library knows."""


@pytest.mark.parametrize("host", [*HOSTS, "[::ffff:127.0.0.1]"])
def test_a_private_host_is_refused_before_it_is_connected_to(
    host: str, serve: Callable[[bytes], Server], png: bytes
) -> None:
    server = serve(png)
    configure(ImageSettings(retries=5))
    with pytest.raises(ImageError, match=REFUSED) as caught:
        UrlImage(f"http://{host}:{server.server_port}/a.png").open()
    assert caught.value.kind == "private-address"
    assert server.asked == []


def test_a_private_host_may_be_allowed(serve: Callable[[bytes], Server], png: bytes) -> None:
    server = serve(png)
    configure(ImageSettings(allow_private=True))
    assert UrlImage(f"http://localhost:{server.server_port}/a.png").size == (60, 40)


@pytest.mark.parametrize("address", ["169.254.169.254", "10.0.0.1", "[fd00:ec2::254]", "[::1]"])
def test_an_address_elsewhere_is_refused_without_a_try(address: str) -> None:
    configure(ImageSettings(timeout=5.0, retries=5))
    with pytest.raises(ImageError, match=REFUSED):
        UrlImage(f"http://{address}/latest/meta-data").open()


@pytest.fixture
def public(monkeypatch: pytest.MonkeyPatch) -> set[int]:
    """Ports on loopback that count as public, as there is no public server here."""
    ports: set[int] = set()
    made = web._socket

    def judge(address_info: tuple[Any, ...], *, proxies: bool = True) -> Any:
        if address_info[4][1] in ports:
            return socket.socket(family=address_info[0], type=address_info[1], proto=address_info[2])
        return made(address_info, proxies=proxies)

    async def session(**arguments: Any) -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(socket_factory=judge)
        return aiohttp.ClientSession(connector=connector, **arguments)

    monkeypatch.setattr(web, "public_session", session)
    return ports


def test_a_redirect_to_a_private_host_is_refused(
    serve: Callable[[bytes], Server], public: set[int], png: bytes
) -> None:
    server, inside = serve(png), serve(png)
    public.add(server.server_port)
    assert UrlImage(f"http://localhost:{server.server_port}/a.png").size == (60, 40)
    for hops in (1, 3):
        url = f"http://localhost:{inside.server_port}/secret"
        for _ in range(hops):
            url = f"http://localhost:{server.server_port}/to/{url}"
        with pytest.raises(ImageError, match=REFUSED):
            UrlImage(url).open()
    assert inside.asked == []


def test_a_name_is_judged_by_the_address_it_is_connected_to(
    serve: Callable[[bytes], Server], png: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is no look-up before the one that the connection is made from, whose answer could differ from it."""
    server = serve(png)
    asked: list[str] = []

    async def resolve(self: Any, host: str, port: int = 0, family: Any = 0) -> list[dict[str, Any]]:
        asked.append(host)
        return [{"hostname": host, "host": "127.0.0.1", "port": port, "family": 2, "proto": 6, "flags": 0}]

    monkeypatch.setattr(aiohttp.resolver.ThreadedResolver, "resolve", resolve)
    monkeypatch.setattr(aiohttp.connector, "DefaultResolver", aiohttp.resolver.ThreadedResolver)
    with pytest.raises(ImageError, match=REFUSED):
        UrlImage(f"http://rebound.example:{server.server_port}/a.png").open()
    assert (asked, server.asked) == (["rebound.example"], [])


def test_an_archive_at_a_private_host_is_refused(serve: Callable[[bytes], Server], png: bytes, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a.png", png)
    server = serve((tmp_path / "a.zip").read_bytes())
    with pytest.raises(ImageError, match=REFUSED):
        UrlImage(f"zip://a.png::http://127.0.0.1:{server.server_port}/a.zip").open()
    assert server.asked == []


def test_a_proxy_of_the_environment_may_be_private(
    serve: Callable[[bytes], Server], png: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = serve(png)
    monkeypatch.setenv("NO_PROXY", "")
    monkeypatch.setenv("HTTP_PROXY", f"http://localhost:{proxy.server_port}")
    configure(ImageSettings(cache=False))
    assert UrlImage("http://photos.example/a.png").size == (60, 40)
    assert proxy.asked == ["http://photos.example/a.png"]
    for host in ("10.0.0.1", "169.254.169.254", "0x7f.1", "localhost", "2130706433"):
        with pytest.raises(ImageError, match=REFUSED):
            UrlImage(f"http://{host}/a.png").open()
    assert len(proxy.asked) == 1
