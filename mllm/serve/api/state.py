"""What all requests of a server share: its models, its bounds, its numbers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from mllm.serve.api.images import ImageReader
from mllm.serve.api.limits import Limits
from mllm.serve.api.monitoring import Monitor
from mllm.serve.api.problems import Problem
from mllm.serve.api.served import ServedModel, queue_full

LOADING_S = 5
"""After which a client may ask again while a model is loaded."""
SMOOTH = 0.1
"""Weight of the latest request in the usual time of one."""


@dataclass(slots=True, kw_only=True)
class ServerState:
    """One server process.

    Attributes:
        key: what clients must send as bearer token; "" where none is asked for.
        image_root: the folder that old clients may name images in; None: none.
        reports: the file that bad answers are appended to; None: they are refused.
    """

    limits: Limits
    images: ImageReader
    monitor: Monitor
    models: dict[str, ServedModel] = field(default_factory=dict[str, ServedModel])
    state: Literal["loading", "ready", "stopping"] = "loading"
    key: str = ""
    image_root: Path | None = None
    reports: Path | None = None
    started: int = field(default_factory=lambda: int(time.time()))
    writing: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Of the reports."""
    active: int = 0
    seconds: float = 1.0
    """That a request takes, usually."""

    def model(self, name: str) -> ServedModel:
        """
        Raises:
            Problem: there is none of this name.
        """
        if name not in self.models:
            known = ", ".join(self.models)
            message = f"model: expected one of {known}, found {name[:80]!r}"
            raise Problem(404, message, param="model", code="model_not_found")
        return self.models[name]

    @property
    def most(self) -> int:
        """Requests that may be here at once."""
        return self.limits.max_rows + self.limits.max_waiting

    @contextmanager
    def admitted(self) -> Iterator[None]:
        """Hold a place for a request, before it is read.

        Raises:
            Problem: there is none, or the server is not ready.
        """
        self.check_ready()
        if self.active >= self.most:
            raise queue_full(self.active, self.seconds * self.active / self.limits.max_rows)
        self.active += 1
        began = time.monotonic()
        try:
            yield
        finally:
            self.active -= 1
            self.seconds += SMOOTH * (time.monotonic() - began - self.seconds)

    def deadline(self) -> float:
        """When a request that comes now must be answered, by the loop's clock."""
        return asyncio.get_running_loop().time() + self.limits.timeout_s

    @asynccontextmanager
    async def in_time(self, deadline: float) -> AsyncIterator[None]:
        """
        Raises:
            Problem: what is inside has not ended by then.
        """
        try:
            async with asyncio.timeout_at(deadline):
                yield
        except TimeoutError as error:
            message = f"the request took more than {self.limits.timeout_s:g} seconds (timeout_s)"
            raise Problem(504, message, code="timeout") from error

    def check_ready(self) -> None:
        """
        Raises:
            Problem: the models are not loaded, or the server stops.
        """
        if self.state == "loading":
            raise Problem(503, "the model is still loading", code="loading", retry_after=LOADING_S)
        if self.state == "stopping":
            raise Problem(503, "the server is stopping", code="stopping", retry_after=LOADING_S)
