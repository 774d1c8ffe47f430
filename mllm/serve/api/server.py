"""`mllm serve` and `mllm web`: one process, or several workers on one socket."""

from __future__ import annotations

import ipaddress
import logging
import multiprocessing
import re
import socket
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from mllm.boundary import reported
from mllm.errors import ConfigError, MllmError, RunError
from mllm.fields import show
from mllm.geometry import PlacementKind
from mllm.registry import CODECS
from mllm.serve.api.limits import Limits

logger = logging.getLogger(__name__)

ADDRESS = re.compile(r"https?://(?P<host>\[[^/]*\]|[^/:\[\]]+)(:(?P<port>\d{1,5}))?(/.*)?", re.IGNORECASE)
"""Of a backend."""
ORIGIN = re.compile(r"https?://(\[[0-9a-f:.]+\]|[^/:\[\]\s]+)(:\d{1,5})?", re.IGNORECASE)
"""Of a web page."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a server is started with.

    Attributes:
        models: name -> folder of each model.
        model_args: as in a config, for all of them.
        backends: the addresses of OpenAI-compatible servers that answer in place of models here.
        allow_urls: fetch images from public http(s) addresses.
        web: serve the page too.
        examples: a folder with images that the page offers.
    """

    models: Mapping[str, str]
    model_args: Mapping[str, Any] = field(default_factory=dict[str, Any])
    device: str | None = None
    backends: Sequence[str] = ()
    codec: str | None = None
    placement: PlacementKind | None = None
    host: str = "127.0.0.1"
    port: int = 8000
    workers: int = 1
    key: str = ""
    origins: Sequence[str] = ()
    hosts: Sequence[str] = ()
    allow_urls: bool = False
    image_root: Path | None = None
    reports: Path | None = None
    web: bool = False
    examples: Path | None = None
    limits: Limits = field(default_factory=Limits)


def run_server(settings: Settings) -> None:
    """Serve until a signal ends it.

    Raises:
        ConfigError: the address cannot be bound, a folder or the device is wrong.
        ModelError: a model cannot be loaded.
        RunError: a worker died.
    """
    check_settings(settings)
    listening = bound(settings)
    address = f"http://{_shown(settings.host)}:{listening.getsockname()[1]}"
    print(f"{'the page is' if settings.web else 'listening'} at {address}", flush=True)
    if not settings.key and not is_loopback(settings.host):
        said = "anyone who reaches this address may ask: it has no API key (--api_key_file)"
        print(said, file=sys.stderr, flush=True)
    if settings.workers == 1:
        serve(settings, listening)
    else:
        run_workers(settings, listening)


def check_settings(settings: Settings) -> None:
    """
    Raises:
        ConfigError: what libraries need is not installed, or a flag names nothing usable.
    """
    try:
        import fastapi  # noqa: F401
        import prometheus_client  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise ConfigError(f"mllm serve needs {error.name}: pip install 'mllm[serve]'") from error
    for url in settings.backends:
        if not ADDRESS.fullmatch(url):
            raise ConfigError(where="--backend", expected="an address such as http://127.0.0.1:8001/v1", found=url)
        if _is_own(url, settings):
            raise ConfigError(where="--backend", expected="another server", found=f"{url}, this server's own address")
    for name in settings.hosts:
        if "*" in name.removeprefix("*.") and name != "*":
            raise ConfigError(where="--allowed_host", expected="a name, *.name, or * for any", found=name)
    for origin in settings.origins:
        if origin != "*" and not ORIGIN.fullmatch(origin):
            expected = "an origin such as https://example.org:8080, or * for any"
            raise ConfigError(where="--cors_origin", expected=expected, found=show(origin))
    for flag, path in (("--image_root", settings.image_root), ("--examples", settings.examples)):
        if path is not None and not path.is_dir():
            raise ConfigError(where=flag, expected="a folder", found=str(path))
    if settings.reports is not None and not settings.reports.absolute().parent.is_dir():
        raise ConfigError(where="--reports", expected="a file in an existing folder", found=str(settings.reports))
    if settings.reports is not None and settings.reports.exists() and not settings.reports.is_file():
        raise ConfigError(where="--reports", expected="a file", found=f"another thing, {settings.reports}")
    if settings.codec is not None and settings.backends:
        CODECS.find(settings.codec)


def _is_own(url: str, settings: Settings) -> bool:
    """Whether a backend is this server, which would wait for itself."""
    found = ADDRESS.match(url)
    if found is None:
        return False
    name, port = found["host"].strip("[]"), found["port"]
    same = name == settings.host or (is_loopback(name) and settings.host in ("localhost", "127.0.0.1", "0.0.0.0", "::"))
    return same and port == str(settings.port)


def bound(settings: Settings) -> socket.socket:
    """The listening socket.

    Raises:
        ConfigError: the address is not this machine's, or in use.
    """
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listening = socket.socket(family)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((settings.host, settings.port))
    except OSError as error:
        listening.close()
        raise ConfigError(
            f"{error.strerror or error}",
            where="--host, --port",
            expected="an address that is free",
            found=f"{settings.host}:{settings.port}",
        ) from error
    listening.listen(2048)
    listening.set_inheritable(True)
    return listening


def is_loopback(host: str) -> bool:
    """Whether only this machine can ask."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _shown(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def serve(settings: Settings, listening: socket.socket) -> None:
    """Answer on a socket until a signal comes, or a model cannot be loaded.

    Until the models are loaded clients are told so; of several workers one that is not ready takes no request.
    """
    import uvicorn

    from mllm.serve.api.app import create_app
    from mllm.serve.api.images import ImageReader
    from mllm.serve.api.loading import load_models
    from mllm.serve.api.monitoring import Monitor
    from mllm.serve.api.state import ServerState
    from mllm.serve.web.page import page_router

    failed: list[MllmError] = []
    limits = settings.limits
    state = ServerState(
        limits=limits,
        images=ImageReader(limits=limits, urls=settings.allow_urls),
        monitor=Monitor(lambda: {name: model.numbers() for name, model in state.models.items()}),
        key=settings.key,
        image_root=settings.image_root,
        reports=settings.reports,
    )

    def load() -> None:
        try:
            state.models = load_models(settings)
        except MllmError as error:
            failed.append(error)
        finally:
            uvicorn_server.should_exit = not state.models
        if state.models and state.state == "loading":
            state.state = "ready"
            print(f"ready: {', '.join(state.models)}", flush=True)

    hosts = settings.hosts or (("localhost", "127.0.0.1", "::1", settings.host) if is_loopback(settings.host) else ())
    app = create_app(
        state,
        start=threading.Thread(target=load, name="load", daemon=True).start if settings.workers == 1 else None,
        origins=settings.origins,
        hosts=hosts,
        page=page_router(settings.examples) if settings.web else None,
    )
    uvicorn_server = uvicorn.Server(
        uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=limits.drain_s,
            timeout_keep_alive=10,
        )
    )
    if settings.workers > 1:
        load()
    if not uvicorn_server.should_exit:
        uvicorn_server.run(sockets=[listening])  # raises the signal again that has ended it
    if failed:
        raise failed[0]
    if not state.models:
        raise RunError("the models were not loaded; what went wrong is above")


SHORT_LIFE_S = 60.0
"""A worker that ends within so many seconds would end again."""


def run_workers(settings: Settings, listening: socket.socket) -> None:
    """Several processes on one socket; with GPUs each has its own. One that dies later on is started anew.

    Raises:
        RunError: a worker died soon after it was started.
    """
    context = multiprocessing.get_context("spawn")

    def start(number: int) -> tuple[Any, float]:
        process = context.Process(target=_worker, args=(number, settings, listening), name=f"worker {number}")
        process.start()
        return process, time.monotonic()

    workers = [start(number) for number in range(settings.workers)]
    try:
        while True:
            wait([process.sentinel for process, _ in workers])
            for number, (process, began) in enumerate(workers):
                if process.is_alive():
                    continue
                if time.monotonic() - began < SHORT_LIFE_S:
                    raise RunError(f"worker {number} ended with status {process.exitcode}; what it said is above")
                logger.warning("worker %s ended with status %s; it is restarted", number, process.exitcode)
                workers[number] = start(number)
    finally:
        for process, _ in workers:
            if process.is_alive():
                process.terminate()
        for process, _ in workers:
            process.join(settings.limits.drain_s + 10)
            process.kill()


def _worker(number: int, settings: Settings, listening: socket.socket) -> None:
    sys.exit(reported(lambda: serve(replace(settings, device=settings.device or _gpu(number)), listening)))


def _gpu(number: int) -> str | None:
    import torch

    return f"cuda:{number % torch.cuda.device_count()}" if torch.cuda.is_available() else None
