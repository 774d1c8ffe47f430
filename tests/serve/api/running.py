"""A server on loopback with a model whose answers a test chooses, or with a real one."""

from __future__ import annotations

import json
import threading
import time
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import uvicorn
from PIL import Image

from mllm.serve.api.app import create_app
from mllm.serve.api.images import ImageReader
from mllm.serve.api.limits import Limits
from mllm.serve.api.monitoring import Monitor
from mllm.serve.api.served import LocalModel
from mllm.serve.api.state import ServerState
from mllm.serve.request import Finished, Ticket
from mllm.serve.sampling import NewToken, Sampling

FOLDER = Path(__file__).parents[2] / "assets" / "saved_before_rooms"
"""A small LLaVA with the codec `bins`."""


@dataclass(eq=False)
class Script:
    """In place of an engine: writes `text`, whatever is asked, once `go` is set."""

    processor: Any
    text: str = "It is here"
    error: Any = None
    refusal: Exception | None = None
    go: threading.Event = field(default_factory=threading.Event)
    samples: list[Any] = field(default_factory=list)
    samplings: list[Sampling] = field(default_factory=list)
    cancelled: list[int] = field(default_factory=list)
    ended: list[int] = field(default_factory=list)
    _threads: list[threading.Thread] = field(default_factory=list)

    def submit(self, sample: Any, sampling: Sampling, listener: Callable[[Any], None]) -> Ticket:
        if self.refusal is not None:
            raise self.refusal
        number = len(self.samplings)
        self.samples.append(sample)
        self.samplings.append(sampling)
        stop = threading.Event()

        def write() -> None:
            while not self.go.wait(0.01):
                if stop.is_set():
                    return
            ids = self.processor.tokenizer(self.text, add_special_tokens=False)["input_ids"]
            for token in ids[: sampling.max_new_tokens]:
                listener(
                    NewToken(id=token, logprob=-0.5, top=((token, -0.5),))
                    if sampling.logprobs is not None
                    else NewToken(id=token, logprob=None, top=())
                )
            reason = "error" if self.error else "length" if len(ids) > sampling.max_new_tokens else "stop"
            self.ended.append(number)
            listener(Finished(reason=reason, error=self.error))

        def cancel() -> None:
            stop.set()
            if number not in self.ended and number not in self.cancelled:
                self.cancelled.append(number)

        thread = threading.Thread(target=write, daemon=True)
        thread.start()
        return Ticket(number=number, cancelled=cancel)

    def stats(self) -> Any:
        raise NotImplementedError

    def close(self, *, drain_s: float) -> None:
        pass


def state_of(models: dict[str, Any], **changes: Any) -> ServerState:
    limits = changes.pop("limits", Limits(timeout_s=20))
    urls = changes.pop("urls", False)
    state = ServerState(
        limits=limits,
        images=ImageReader(limits=limits, urls=urls),
        monitor=Monitor(lambda: {name: model.numbers() for name, model in models.items()}),
        models=models,
        state="ready",
    )
    for name, value in changes.items():
        setattr(state, name, value)
    return state


@contextmanager
def running(state: ServerState, **arguments: Any) -> Iterator[str]:
    """The address of the server while it runs."""
    server = uvicorn.Server(uvicorn.Config(create_app(state, **arguments), port=0, log_level="warning"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    until(lambda: server.started)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(10)


def until(happened: Callable[[], Any], seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)


def data_url(image: Image.Image, form: str = "PNG") -> str:
    buffer = BytesIO()
    image.save(buffer, form)
    return f"data:image/{form.lower()};base64,{b64encode(buffer.getvalue()).decode()}"


def painted(size: tuple[int, int] = (60, 40)) -> Image.Image:
    image = Image.new("RGB", size, (40, 80, 120))
    image.paste((250, 20, 20), (10, 10, 30, 20))
    return image


def asked(text: str = "Where is it?", *images: Image.Image, **fields: Any) -> dict[str, Any]:
    """A request about images."""
    parts = [{"type": "image_url", "image_url": {"url": data_url(image)}} for image in images]
    content = [*parts, {"type": "text", "text": text}]
    return {"model": "tiny", "messages": [{"role": "user", "content": content}], **fields}


def scripted(loaded: Any) -> tuple[LocalModel, Script]:
    script = Script(loaded.processor)
    script.go.set()
    card = {"type": "llava", "codec": "bins"}
    return LocalModel("tiny", loaded.processor, script, card), script  # pyright: ignore[reportArgumentType]


def ask(url: str, body: dict[str, Any] | None = None, **headers: str) -> tuple[int, Any, dict[str, str]]:
    """Status, body and headers of a page."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"content-type": "application/json", **headers})
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            text, status, got = response.read().decode(), response.status, response.headers
    except urllib.error.HTTPError as error:
        text, status, got = error.read().decode(), error.code, error.headers
    return status, json.loads(text) if text.startswith("{") else text, {name.lower(): got[name] for name in got}
