"""The HTTP server: its pages, and who may ask for them."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

from fastapi import APIRouter, Depends, FastAPI, Request, Response
from fastapi.responses import JSONResponse
from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from mllm.serve.api import chat, instruct_flamingo, reports
from mllm.serve.api.monitoring import Counted
from mllm.serve.api.problems import Problem, add_handlers
from mllm.serve.api.state import ServerState

OPEN = frozenset({"/health", "/ready"})
"""Pages that need no key: what watches over a container asks them."""
router = APIRouter()


def create_app(
    server: ServerState,
    *,
    start: Callable[[], None] | None = None,
    origins: Sequence[str] = (),
    hosts: Sequence[str] = (),
    page: APIRouter | None = None,
) -> FastAPI:
    """The application.

    Args:
        start: called when the server begins; loads the models in a thread of its own. None: they are there.
        origins: of pages elsewhere that browsers may ask from (CORS).
        hosts: the names that requests may ask for, () any: so that no foreign name can lead a browser here.
        page: the web page; like `/health` it needs no key, which it asks its user for.
    """

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        if start is not None:
            start()
        yield
        server.state = "stopping"
        for model in server.models.values():
            await asyncio.to_thread(model.close)

    app = FastAPI(title="mllm", lifespan=lifespan, docs_url=None, redoc_url=None)
    app.state.server = server
    routers = (router, chat.router, instruct_flamingo.router, reports.router)
    for pages in routers:
        app.include_router(pages, dependencies=[Depends(check_key)])
    if page is not None:
        app.include_router(page)
    add_handlers(app)
    paths = frozenset(getattr(route, "path", "") for pages in routers for route in pages.routes)
    app.add_middleware(Counted, monitor=server.monitor, paths=paths)
    if origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(origins),
            allow_methods=["GET", "POST"],
            allow_headers=["authorization", "content-type"],
        )
    if hosts:
        app.add_middleware(KnownHosts, hosts=hosts)
    return app


class KnownHosts:
    """Refuses requests that give this server another name: a page elsewhere may have had one led here (DNS rebinding).

    `hosts`: names, `*.name` for all below one, `*` for any.
    """

    def __init__(self, app: ASGIApp, hosts: Sequence[str]) -> None:
        self.app = app
        self.hosts = [host.lower().strip("[]") for host in hosts]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or self.knows(Headers(scope=scope).get("host", "")):
            return await self.app(scope, receive, send)
        message = "the request gives this server a name that it does not know (--allowed_host names others)"
        await Problem(400, message, code="unknown_host").response()(scope, receive, send)

    def knows(self, said: str) -> bool:
        try:
            name = urlsplit(f"//{said}").hostname or ""
        except ValueError:
            return False
        below = (host[1:] for host in self.hosts if host.startswith("*."))
        return "*" in self.hosts or name in self.hosts or any(name.endswith(end) for end in below)


def check_key(request: Request) -> None:
    """
    Raises:
        Problem: the server asks for a key, and this is not it.
    """
    server: ServerState = request.app.state.server
    if not server.key or request.scope["path"] in OPEN:
        return
    scheme, _, sent = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not hmac.compare_digest(sent.strip().encode("latin-1"), server.key.encode()):
        raise Problem(401, "expected the server's API key as bearer token", code="invalid_api_key")


@router.get("/health")
def health(request: Request) -> JSONResponse:
    """Whether the process works; 503 once a model's thread has died."""
    server: ServerState = request.app.state.server
    dead = [name for name, model in server.models.items() if not model.alive()]
    return JSONResponse({"status": "dead" if dead else "ok", "dead": dead}, 503 if dead else 200)


@router.get("/ready")
def ready(request: Request) -> JSONResponse:
    """Whether questions are answered; 503 while the models are loaded, and when the server stops."""
    server: ServerState = request.app.state.server
    return JSONResponse({"status": server.state}, 200 if server.state == "ready" else 503)


@router.get("/metrics")
def metrics(request: Request) -> Response:
    """For Prometheus."""
    server: ServerState = request.app.state.server
    return Response(server.monitor.page(), media_type="text/plain; version=0.0.4; charset=utf-8")


@router.get("/v1/models")
def models(request: Request) -> dict[str, Any]:
    """The models that are served, in OpenAI's shape, with what mllm knows of each under `mllm`."""
    server: ServerState = request.app.state.server
    server.check_ready()
    return {"object": "list", "data": [_model(server, name) for name in server.models]}


@router.get("/v1/models/{name:path}")
def one_model(request: Request, name: str) -> dict[str, object]:
    server: ServerState = request.app.state.server
    server.check_ready()
    server.model(name)
    return _model(server, name)


def _model(server: ServerState, name: str) -> dict[str, object]:
    card = server.models[name].card()
    return {"id": name, "object": "model", "created": server.started, "owned_by": "mllm", "mllm": card}
