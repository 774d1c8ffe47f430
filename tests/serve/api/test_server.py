"""Server processes: started by the command, asked, and ended by a signal."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from mllm import load
from mllm.cli import main
from mllm.errors import ConfigError, ModelError
from mllm.serve.api.server import Settings, bound, check_settings, is_loopback, serve
from tests.forks import Forked, fork
from tests.serve.api.running import FOLDER, ask, asked, painted, until

ROOT = Path(__file__).parents[3]
Process = Forked | subprocess.Popen[bytes]


def forked(words: list[str], folder: Path) -> Forked:
    """The command in a process that has imported everything."""
    return fork(main, words, folder=folder, out=folder / "log")


def started(words: list[str], folder: Path) -> subprocess.Popen[bytes]:
    """The command as a user starts it."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with (folder / "log").open("w") as log:
        command = [sys.executable, "-m", "mllm.cli", *words]
        return subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, cwd=folder, env=environment)


@contextmanager
def served(start: Callable[[list[str], Path], Process], folder: Path, *words: str) -> Iterator[tuple[str, Process]]:
    """A server of the small model, once it is ready."""
    process = start(["serve", f"tiny={FOLDER}", "--port", "0", *words], folder)
    log = folder / "log"
    try:
        until(lambda: (log.exists() and re.search(r"http://\S+", log.read_text())) or process.poll() is not None, 60)
        address = re.search(r"http://[^\s/]+", log.read_text())
        assert address is not None, log.read_text()
        until(lambda: _ready(address[0]), 120)
        yield address[0], process
    finally:
        process.kill()
        process.wait(60)


def _ready(url: str) -> bool:
    try:
        return ask(f"{url}/ready")[0] == 200
    except OSError:
        return False


def test_a_server_answers_as_the_model_alone_and_finishes_what_runs_when_it_is_told_to_stop(tmp_path: Path) -> None:
    with served(forked, tmp_path) as (url, process):
        status, found, _ = ask(f"{url}/v1/chat/completions", asked("Where is it?", painted(), max_tokens=8))
        assert status == 200
        expected = load(FOLDER, device="cpu").chat(painted(), "Where is it?", max_new_tokens=8)
        assert found["choices"][0]["message"]["content"] == expected.text
        assert found["usage"]["completion_tokens"] == expected.tokens
        assert "mllm_engine_new_tokens" in ask(f"{url}/metrics")[1]
        assert ask(f"{url}/health")[:2] == (200, {"status": "ok", "dead": []})
        body = json.dumps(asked("Where is it?", painted(), max_tokens=200, stream=True)).encode()
        sock = socket.create_connection(("127.0.0.1", int(url.rsplit(":", 1)[1])), timeout=60)
        head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(body)}\r\n"
        sock.sendall(f"{head}content-type: application/json\r\n\r\n".encode() + body)
        said = sock.recv(4096)
        process.send_signal(signal.SIGTERM)
        while part := sock.recv(65536):
            said += part
        assert b"[DONE]" in said
        assert process.wait(30) == 128 + signal.SIGTERM


@pytest.mark.slow
def test_workers_share_an_address(tmp_path: Path) -> None:
    import psutil

    with served(started, tmp_path, "--workers", "2") as (url, process):
        assert ask(f"{url}/v1/chat/completions", asked("?", max_tokens=2))[0] == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 128 + signal.SIGTERM
        assert not psutil.pid_exists(process.pid)


def test_a_model_that_cannot_be_loaded_ends_the_server(tmp_path: Path) -> None:
    settings = Settings(models={"empty": str(tmp_path)}, port=0)
    with bound(settings) as listening, pytest.raises(ModelError, match=re.escape(str(tmp_path))):
        serve(settings, listening)


def test_an_address_that_is_taken(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(ConfigError, match=f"an address that is free, found 127.0.0.1:{port}"):
            bound(Settings(models={}, port=port))
    with pytest.raises(ConfigError, match="an address that is free"):
        bound(Settings(models={}, host="203.0.113.1", port=0))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"hosts": ("*x.org",)}, r"--allowed_host: expected a name, \*\.name, or \* for any, found \*x\.org"),
        ({"image_root": Path("none")}, "--image_root: expected a folder"),
        ({"examples": Path("none")}, "--examples: expected a folder"),
        ({"reports": Path("none/a.jsonl")}, "--reports: expected a file in an existing folder"),
        ({"reports": Path("/dev/null")}, "--reports: expected a file, found another thing"),
        ({"origins": ("x.org",)}, "--cors_origin: expected an origin such as https://.* found str 'x.org'"),
        ({"codec": "nope", "backends": ("http://127.0.0.1:9/v1",)}, "unknown region codec type 'nope'"),
    ],
)
def test_flags_that_name_nothing_usable(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        check_settings(Settings(models={}, **changes))


def test_which_hosts_are_this_machine_alone() -> None:
    assert [is_loopback(host) for host in ("127.0.0.1", "::1", "localhost", "0.0.0.0", "::", "10.0.0.1", "x.org")] == [
        *(True, True, True),
        *(False, False, False, False),
    ]


@pytest.mark.parametrize(
    ("host", "url", "own"),
    [
        ("127.0.0.1", "http://127.0.0.1:8000/v1", True),
        ("127.0.0.1", "http://localhost:8000/v1", True),
        ("0.0.0.0", "http://127.0.0.1:8000/v1", True),
        ("::1", "http://[::1]:8000/v1", True),
        ("127.0.0.1", "http://127.0.0.1:8001/v1", False),
        ("127.0.0.1", "http://engine:8000/v1", False),
    ],
)
def test_a_backend_is_not_the_server_itself(host: str, url: str, own: bool) -> None:
    settings = Settings(models={}, host=host, backends=[url])
    if not own:
        return check_settings(settings)
    with pytest.raises(ConfigError, match="own address"):
        check_settings(settings)


@pytest.mark.parametrize("url", ["nonsense", "127.0.0.1:8001/v1", "http://[/v1", "http://", "ftp://engine/v1"])
def test_a_backend_is_an_address(url: str) -> None:
    with pytest.raises(ConfigError, match="an address such as"):
        check_settings(Settings(models={}, backends=[url]))
