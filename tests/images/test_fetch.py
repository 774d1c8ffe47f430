"""Against real servers on loopback: an http server that misbehaves, and moto's, which speaks S3's protocol."""

from __future__ import annotations

import io
import multiprocessing
import sys
import threading
import types
import zipfile
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import fsspec
import pytest
from PIL import Image

from mllm.errors import ConfigError, ImageError
from mllm.images import UrlImage, image_ref
from mllm.images.settings import ImageSettings, configure
from tests.object_storage import s3_on_loopback


class Server(ThreadingHTTPServer):
    """Serves `png` in the ways that `Answers` knows; counts the requests for each path."""

    daemon_threads = True

    def __init__(self, png: bytes) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        self.png = png
        self.requests: Counter[str] = Counter()
        self.over = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Answers(BaseHTTPRequestHandler):
    server: Server  # pyright: ignore[reportIncompatibleVariableOverride]

    def do_GET(self) -> None:
        name = self.path.split("?")[0].strip("/")
        self.server.requests[name] += 1
        getattr(self, name, self.missing)()

    def log_message(self, format: str, *args: object) -> None: ...

    def head(self, status: int = 200, length: int | None = None) -> None:
        self.send_response(status)
        if length is not None:
            self.send_header("Content-Length", str(length))
        self.end_headers()

    def do_HEAD(self) -> None:
        name = self.path.strip("/")
        if name == "silent":
            self.server.over.wait(30)
        self.head(404 if name == "missing" else 200, len(self.server.png))

    def whole(self) -> None:
        self.head(length=len(self.server.png))
        self.wfile.write(self.server.png)

    def missing(self) -> None:
        self.head(404, 0)

    def refused(self) -> None:
        self.head(403, 0)

    def broken(self) -> None:
        self.head(500, 0)

    def busy(self) -> None:
        """The third request is served."""
        self.whole() if self.server.requests["busy"] > 2 else self.head(503, 0)

    def stalls(self) -> None:
        self.head(length=len(self.server.png))
        self.wfile.write(self.server.png[:100])
        self.wfile.flush()
        self.server.over.wait(30)

    def silent(self) -> None:
        self.server.over.wait(30)

    def cut(self) -> None:
        self.head(length=len(self.server.png))
        self.wfile.write(self.server.png[:1000])

    def cut_without_length(self) -> None:
        self.head()
        self.wfile.write(self.server.png[:1000])

    def endless(self) -> None:
        self.head()
        try:
            while True:
                self.wfile.write(bytes(1 << 16))
        except OSError:
            self.server.over.set()  # the other side hung up

    def page(self) -> None:
        self.head()
        self.wfile.write(b"<html>log in first</html>")

    def moved(self) -> None:
        self.send_response(302)
        self.send_header("Location", "/whole")
        self.end_headers()

    def to_the_disk(self) -> None:
        self.send_response(302)
        self.send_header("Location", "file:///etc/hostname")
        self.end_headers()


@pytest.fixture
def server(png: bytes, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    configure(ImageSettings(allow_private=True))
    with Server(png) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield server
        server.over.set()
        server.shutdown()
        thread.join()


class TestHttp:
    def test_opens_and_is_kept(self, server: Server, noise: Image.Image, cache: Path) -> None:
        ref = image_ref(f"{server.url}/whole")
        assert ref.size == (60, 40)
        assert ref.open().tobytes() == noise.tobytes()
        assert ref.open().tobytes() == noise.tobytes()
        assert server.requests["whole"] == 1
        assert len(list(cache.glob("??/*"))) == 1

    def test_nothing_is_kept_where_not_asked(self, server: Server, cache: Path) -> None:
        configure(ImageSettings(allow_private=True, cache=False))
        for _ in range(2):
            ref = UrlImage(f"{server.url}/whole")
            assert ref.open().size == ref.size == (60, 40)
        assert server.requests["whole"] == 2, "a size does not fetch again"
        assert not cache.exists()

    def test_what_rotted_on_the_disk_is_fetched_again(self, server: Server, noise: Image.Image, cache: Path) -> None:
        ref = UrlImage(f"{server.url}/whole")
        ref.open()
        next(cache.glob("??/*")).write_bytes(b"")
        assert ref.open().tobytes() == noise.tobytes()
        assert server.requests["whole"] == 2

    def test_a_busy_server_is_asked_again(self, server: Server, noise: Image.Image) -> None:
        assert UrlImage(f"{server.url}/busy").open().tobytes() == noise.tobytes()
        assert server.requests["busy"] == 3

    def test_redirects_are_followed_within_http(self, server: Server, noise: Image.Image) -> None:
        assert UrlImage(f"{server.url}/moved").open().tobytes() == noise.tobytes()
        with pytest.raises(ImageError, match="to_the_disk: not fetched in 4 tries: NonHttpUrl"):
            UrlImage(f"{server.url}/to_the_disk").open()

    @pytest.mark.parametrize(
        ("name", "tries", "message"),
        [
            ("missing", 1, "no such file"),
            ("refused", 1, "cannot be fetched: the server answered 403 Forbidden"),
            ("broken", 3, "not fetched in 3 tries: the server answered 500 Internal Server Error"),
            ("stalls", 3, r"not fetched in 3 tries: it took more than 0\.2 seconds \(images\.timeout\)"),
            ("silent", 3, r"not fetched in 3 tries: it took more than 0\.2 seconds \(images\.timeout\)"),
            ("cut", 3, "not fetched in 3 tries: ClientPayloadError: "),
            ("cut_without_length", 1, "cannot be decoded: "),
            ("page", 1, "expected an image, .*found b'<html>log in first"),
        ],
    )
    def test_what_is_wrong_is_named_and_not_kept(
        self, name: str, tries: int, message: str, server: Server, cache: Path
    ) -> None:
        configure(ImageSettings(allow_private=True, timeout=0.2, retries=2))
        with pytest.raises(ImageError, match=f"^{server.url}/{name}: {message}"):
            UrlImage(f"{server.url}/{name}").open()
        assert server.requests[name] == tries
        assert not cache.exists()

    def test_a_file_without_an_end(self, server: Server) -> None:
        configure(ImageSettings(allow_private=True, max_mb=2))
        with pytest.raises(ImageError, match=r"endless: more than 2 MB \(images\.max_mb\)"):
            UrlImage(f"{server.url}/endless").open()
        assert server.over.wait(30), "the connection is closed"

    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("missing", "no such file"),
            ("silent", r"not fetched in 1 try: it took more than 0\.2 seconds"),
            ("whole", "cannot be fetched: ValueError: The HTTP server doesn't appear to support range requests"),
        ],
    )
    def test_an_archive_behind_it(self, name: str, message: str, server: Server) -> None:
        configure(ImageSettings(allow_private=True, timeout=0.2, retries=0))
        with pytest.raises(ImageError, match=f"^{server.url}/{name}: {message}"):
            UrlImage(f"zip://a.png::{server.url}/{name}").open()

    def test_no_server(self) -> None:
        configure(ImageSettings(allow_private=True, retries=0))
        with pytest.raises(ImageError, match=r"http://127\.0\.0\.1:1/a\.jpg: not fetched in 1 try: Client"):
            UrlImage("http://127.0.0.1:1/a.jpg").open()

    def test_signatures_and_passwords_are_not_shown(self, server: Server) -> None:
        url = f"{server.url}/missing?X-Amz-Signature=secret".replace("http://", "http://me:secret@")
        with pytest.raises(ImageError) as caught:
            UrlImage(url).open()
        assert str(caught.value) == f"{server.url}/missing?...: no such file"

    def test_a_forked_worker_fetches_too(self, server: Server) -> None:
        """The threads and connections that this process fetched by do not come along."""
        configure(ImageSettings(allow_private=True, cache=False))
        UrlImage(f"{server.url}/whole").open()
        worker = multiprocessing.get_context("fork").Process(target=UrlImage(f"{server.url}/whole").open)
        worker.start()
        worker.join()
        assert worker.exitcode == 0
        assert server.requests["whole"] == 2


@pytest.fixture(scope="module")
def s3() -> Iterator[fsspec.AbstractFileSystem]:
    with s3_on_loopback("photos") as system:
        yield system


class TestS3:
    def test_opens_and_is_kept(
        self, s3: fsspec.AbstractFileSystem, png: bytes, noise: Image.Image, cache: Path
    ) -> None:
        s3.pipe_file("photos/a/b.png", png)
        ref = image_ref("a/b.png", "s3://photos")
        assert ref.open().tobytes() == noise.tobytes()
        assert len(list(cache.glob("??/*"))) == 1
        s3.rm_file("photos/a/b.png")
        assert ref.size == (60, 40)

    def test_a_member_of_an_archive(
        self, s3: fsspec.AbstractFileSystem, png: bytes, noise: Image.Image, tmp_path: Path
    ) -> None:
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as archive:
            archive.writestr("a/b.png", png)
        s3.pipe_file("photos/all.zip", packed.getvalue())
        assert image_ref("a/b.png", "zip://::s3://photos/all.zip").open().tobytes() == noise.tobytes()

    @pytest.mark.parametrize("url", ["s3://photos/none.png", "s3://nobody/a.png", "zip://a.png::s3://photos/none.zip"])
    def test_missing(self, url: str, s3: fsspec.AbstractFileSystem) -> None:
        with pytest.raises(ImageError, match="no such file"):
            UrlImage(url).open()

    def test_without_credentials(self, s3: fsspec.AbstractFileSystem, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
        fsspec.filesystem("s3").clear_instance_cache()
        with pytest.raises(ImageError, match=r"s3://photos/a\.png: cannot be fetched: NoCredentialsError: Unable to"):
            UrlImage("s3://photos/a.png").open()
        fsspec.filesystem("s3").clear_instance_cache()

    def test_an_impossible_bucket_is_named_on_one_line(self, s3: fsspec.AbstractFileSystem) -> None:
        with pytest.raises(ImageError, match="s3://: cannot be fetched: ParamValidationError: ") as caught:
            UrlImage("s3://").open()
        assert "\n" not in str(caught.value)

    def test_too_large(self, s3: fsspec.AbstractFileSystem) -> None:
        s3.pipe_file("photos/large.png", bytes(200_000))
        configure(ImageSettings(max_mb=0.1))
        with pytest.raises(ImageError, match=r"s3://photos/large\.png: more than 0\.1 MB"):
            UrlImage("s3://photos/large.png").open()


class TestCeph:
    @pytest.mark.parametrize("url", ["petrel://photos/a.png", "zz1424:s3://photos/a.png"])
    def test_is_read_by_mmengines_backend(
        self, url: str, png: bytes, noise: Image.Image, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked: list[str] = []

        class Client:
            """What mmengine calls of petrel_client."""

            def __init__(self, conf_path: str | None, enable_mc: bool) -> None: ...

            def Get(self, path: str) -> bytes:
                asked.append(path)
                return png

        package = types.ModuleType("petrel_client")
        package.client = types.SimpleNamespace(Client=Client)  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "petrel_client", package)
        from mllm.images import ceph

        ceph._backend.cache_clear()
        assert image_ref(url).open().tobytes() == noise.tobytes()
        assert asked == [url.replace("petrel://", "s3://")]
        ceph._backend.cache_clear()

    def test_without_its_client(self) -> None:
        with pytest.raises(ConfigError, match="images in ceph need the package petrel_client"):
            UrlImage("petrel://photos/a.png").open()


@pytest.mark.parametrize(
    ("url", "module", "message"),
    [
        ("https://x.org/a.jpg", "aiohttp", r"https:// images need .* not installed: pip install 'mllm\[remote\]'"),
        ("gs://bucket/a.jpg", "gcsfs", "gs:// images need a library that is not installed: .*gcsfs"),
    ],
)
def test_a_library_that_is_not_installed(url: str, module: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """No ImageError: it must not be skipped."""
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ConfigError, match=message):
        UrlImage(url).open()


def test_a_protocol_that_nobody_speaks() -> None:
    configure(ImageSettings(protocols=("nonsense",)))
    with pytest.raises(ConfigError, match=r"data_args\.images\.protocols: Protocol not known: nonsense"):
        image_ref("nonsense://a.jpg").open()
