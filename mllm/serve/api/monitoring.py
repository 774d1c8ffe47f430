"""`/metrics` for Prometheus: requests and their times, tokens, and what each model's engine says of itself."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)


class Monitor:
    """The numbers of one server process."""

    def __init__(self, numbers: Callable[[], Mapping[str, Mapping[str, float]]]) -> None:
        """`numbers`: of each model, asked for when the page is read."""
        self.registry = CollectorRegistry()
        self.requests = self._counter("mllm_requests", "Requests answered.", "path", "status")
        self.prompt_tokens = self._counter("mllm_prompt_tokens", "Tokens of questions, images included.", "model")
        self.new_tokens = self._counter("mllm_generated_tokens", "Tokens of answers.", "model")
        self.seconds = Histogram(
            "mllm_request_seconds", "From arrival to the last byte.", ["path"], buckets=SECONDS, registry=self.registry
        )
        self.first_token = Histogram(
            "mllm_time_to_first_token_seconds",
            "From arrival to the first token.",
            ["model"],
            buckets=SECONDS,
            registry=self.registry,
        )
        self.registry.register(_Engines(numbers))

    def _counter(self, name: str, about: str, *labels: str) -> Counter:
        return Counter(name, about, labels, registry=self.registry)

    def page(self) -> bytes:
        return generate_latest(self.registry)


class _Engines(Collector):
    def __init__(self, numbers: Callable[[], Mapping[str, Mapping[str, float]]]) -> None:
        self.numbers = numbers

    def collect(self) -> Iterator[GaugeMetricFamily]:
        families: dict[str, GaugeMetricFamily] = {}
        for model, values in self.numbers().items():
            for name, value in values.items():
                family = families.setdefault(
                    name, GaugeMetricFamily(f"mllm_engine_{name}", name.replace("_", " "), labels=["model"])
                )
                family.add_metric([model], value)
        yield from families.values()


class Counted:
    """Counts each request when its last byte is sent; beneath nothing that hides from routes that a client left."""

    def __init__(self, app: ASGIApp, monitor: Monitor, paths: frozenset[str]) -> None:
        self.app = app
        self.monitor = monitor
        self.paths = paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        path = scope["path"] if scope["path"] in self.paths else "other"
        status, began = 499, time.monotonic()

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, noted)
        finally:
            self.monitor.requests.labels(path, str(status)).inc()
            self.monitor.seconds.labels(path).observe(time.monotonic() - began)
