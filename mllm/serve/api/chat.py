"""`POST /v1/chat/completions`: OpenAI's request in, its completion or stream of chunks out, with regions."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from mllm.errors import MllmError
from mllm.serve.api import schema
from mllm.serve.api.conversation import messages_of
from mllm.serve.api.problems import Problem, of_error
from mllm.serve.api.served import Delta, End, PreparedQuestion, RunningAnswer, ServedModel, TokenLogProb
from mllm.serve.api.state import ServerState
from mllm.serve.question import Message
from mllm.serve.sampling import Sampling

router = APIRouter()
MOST_ENTRIES = 200_000
"""Entries of all lists and objects of a request, by its commas: each that is read costs memory and time, and no other
request is served meanwhile. A question of 32,768 tokens has fewer."""
POLL_S = 0.2
"""How often it is looked whether a client is still there."""
READ_ON, READ_ON_S = 4, 1.0
"""Of a request that is too large: times the bound that is read and dropped, and seconds for each piece."""
LATE_S = 2.0
"""For the event that says that time is up."""
GONE = 499
"""The client hung up. Source: nginx."""


@router.post("/v1/chat/completions")
async def chat_completions(request: Request) -> Response:
    """Answer the last question of a conversation; `regions` in request and answer are mllm's, see docs/serve.md."""
    server: ServerState = request.app.state.server
    deadline = server.deadline()
    with ExitStack() as stack:
        stack.enter_context(server.admitted())
        async with server.in_time(deadline):
            body = schema.ChatRequest.model_validate_json(await body_of(request))
            model = server.model(body.model)
            samplings = body.samplings(server.limits)
            messages = await messages_of(body, server.images)
            question = await prepared(server, model, messages, body.answer_image)
        answers = RunningChoices(server, model, question, samplings, deadline, logprobs=bool(body.logprobs))
        stack.callback(answers.cancel)
        answers.start()
        if not body.stream:
            return await unless_gone(request, whole(answers))
        usage = body.stream_options is not None and body.stream_options.include_usage
        return EventStream(chunks(answers, usage=usage), until=stack.pop_all(), deadline=deadline)


async def body_of(request: Request, kind: str = "application/json") -> bytes:
    """
    Raises:
        Problem: the body is larger than the server takes, too slow, or not said to be of this kind: a form of a page
            elsewhere can send some others without being asked first.
    """
    said = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if said != kind:
        raise Problem(415, f"content-type: expected {kind}, found {said[:80]!r}")
    server: ServerState = request.app.state.server
    most = server.limits.max_body
    large = Problem(413, f"expected a request of at most {most:,} bytes (max_body_mb)", code="request_too_large")
    length = request.headers.get("content-length", "0")
    if length.isdecimal() and int(length) > most:
        await _read_on(request, most)
        raise large
    body = bytearray()
    try:
        async with server.in_time(server.deadline()):
            async for part in request.stream():
                body += part
                if len(body) > most:
                    await _read_on(request, most)
                    raise large
    except ClientDisconnect as error:
        raise Problem(GONE, "the client hung up") from error
    if kind == "application/json" and body.count(b",") > MOST_ENTRIES:
        raise Problem(413, f"expected a request of at most {MOST_ENTRIES:,} entries", code="request_too_large")
    return bytes(body)


async def _read_on(request: Request, most: int) -> None:
    """Let a client that sends too much come to its end, within bounds: who still sends does not read the answer."""
    if "expect" in request.headers:  # it asks before it sends
        return
    left = most * READ_ON
    with suppress(TimeoutError, ClientDisconnect):
        while left > 0:
            async with asyncio.timeout(READ_ON_S):
                message = await request.receive()
            left -= len(message.get("body", b""))
            if not message.get("more_body"):
                return


async def prepared(
    server: ServerState, model: ServedModel, messages: Sequence[Message], answer_image: int | None = None
) -> PreparedQuestion:
    """
    Raises:
        Problem: the conversation cannot be asked; names the field.
    """
    question = await asyncio.to_thread(model.prepare, messages, answer_image)
    most = min(server.limits.max_prompt_tokens, model.context or server.limits.max_prompt_tokens)
    if question.prompt_tokens > most:
        message = f"messages: expected at most {most:,} tokens, images included, found {question.prompt_tokens:,}"
        raise Problem(400, message, param="messages", code="context_length_exceeded")
    server.monitor.prompt_tokens.labels(model.name).inc(question.prompt_tokens)
    return question


@dataclass(slots=True)
class RunningChoices:
    """The choices of one request, under way."""

    server: ServerState
    model: ServedModel
    question: PreparedQuestion
    samplings: Sequence[Sampling]
    deadline: float
    logprobs: bool
    id: str = field(default_factory=lambda: f"chatcmpl-{uuid.uuid4().hex}")
    created: int = field(default_factory=lambda: int(time.time()))
    began: float = field(default_factory=time.monotonic)
    new_tokens: int = 0
    counted: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])
    _events: asyncio.Queue[tuple[int, object]] = field(default_factory=asyncio.Queue[tuple[int, Any]])
    _generations: list[RunningAnswer] = field(default_factory=list[RunningAnswer])

    def start(self) -> None:
        """
        Raises:
            Problem: there is no place for one of them.
        """
        loop = asyncio.get_running_loop()
        for choice, sampling in enumerate(self.samplings):

            def put(event: object, choice: int = choice) -> None:
                loop.call_soon_threadsafe(self._events.put_nowait, (choice, event))

            self._generations.append(self.model.start(self.question, sampling, put))

    def cancel(self) -> None:
        for generation in self._generations:
            generation.cancel()

    async def events(self) -> AsyncIterator[tuple[int, Delta | End]]:
        """What the choices grow by, as it comes, and the end of each.

        Raises:
            Problem: a generation failed, or time is up.
        """
        running = len(self._generations)
        while running:
            async with self.server.in_time(self.deadline):
                choice, event = await self._events.get()
            for found in self._generations[choice].take(event):
                if isinstance(found, Delta):
                    self._count(found)
                running -= isinstance(found, End)
                yield choice, found

    def _count(self, grown: Delta) -> None:
        if grown.tokens and not self.new_tokens:
            self.server.monitor.first_token.labels(self.model.name).observe(time.monotonic() - self.began)
        self.new_tokens += grown.tokens
        self.server.monitor.new_tokens.labels(self.model.name).inc(grown.tokens)
        if grown.usage:
            self.counted.append(grown.usage)

    @property
    def usage(self) -> dict[str, int]:
        """By the backend's count, where there is one."""
        prompt, new = self.question.prompt_tokens, self.new_tokens
        if self.counted:
            prompt, new = self.counted[0][0], sum(tokens for _, tokens in self.counted)
        return {"prompt_tokens": prompt, "completion_tokens": new, "total_tokens": prompt + new}

    def head(self, kind: str) -> dict[str, Any]:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model.name}


async def whole(answers: RunningChoices) -> Response:
    """The completion, once all choices have ended."""
    ends: dict[int, End] = {}
    logprobs: dict[int, list[TokenLogProb]] = {}
    async for choice, found in answers.events():
        if isinstance(found, End):
            ends[choice] = found
        else:
            logprobs.setdefault(choice, []).extend(found.logprobs)
    choices = [
        {
            "index": choice,
            "message": {
                "role": "assistant",
                "content": end.text,
                "refusal": None,
                "regions": end.regions,
                **_times(end),
            },
            "logprobs": _logprobs(logprobs.get(choice, [])) if answers.logprobs else None,
            "finish_reason": end.reason,
        }
        for choice, end in sorted(ends.items())
    ]
    return JSONResponse({**answers.head("chat.completion"), "choices": choices, "usage": answers.usage})


async def chunks(answers: RunningChoices, *, usage: bool) -> AsyncIterator[str]:
    """The events of a stream: the growth of each choice, its end, and `[DONE]`; an error that comes now is an event."""
    head = answers.head("chat.completion.chunk")

    def chunk(choice: int, delta: dict[str, Any], *, reason: str | None = None, **more: Any) -> str:
        return _event({**head, "choices": [{"index": choice, "delta": delta, "finish_reason": reason, **more}]})

    for choice in range(len(answers.samplings)):
        yield chunk(choice, {"role": "assistant", "content": ""})
    try:
        async for choice, found in answers.events():
            if isinstance(found, End):
                yield chunk(choice, _times(found), reason=found.reason)
                continue
            delta: dict[str, object] = {"content": found.text} if found.text else {}
            if found.regions:
                delta["regions"] = found.regions
            more: dict[str, Any] = (
                {"logprobs": _logprobs(found.logprobs)} if answers.logprobs and found.logprobs else {}
            )
            if delta or more:
                yield chunk(choice, delta, **more)
    except (Problem, MllmError) as error:
        yield _event(of_error(error).to_dict())
        return
    if usage:
        yield _event({**head, "choices": [], "usage": answers.usage})
    yield "data: [DONE]\n\n"


def _times(end: End) -> dict[str, object]:
    return {} if end.time_spans is None else {"time_spans": end.time_spans}


def _event(record: dict[str, object]) -> str:
    return f"data: {json.dumps(record, ensure_ascii=False)}\n\n"


def _logprobs(tokens: Sequence[TokenLogProb]) -> dict[str, object]:
    def entry(text: str, logprob: float) -> dict[str, Any]:
        return {"token": text, "logprob": logprob, "bytes": list(text.encode())}

    content = [
        {**entry(token.text, token.logprob), "top_logprobs": [entry(*other) for other in token.top]} for token in tokens
    ]
    return {"content": content, "refusal": None}


class EventStream(StreamingResponse):
    """Server-sent events; what they hold is released when the last is sent, or the client has left.

    Of a client that stays and does not read, `LATE_S` after the deadline.
    """

    def __init__(self, events: AsyncIterator[str], *, until: ExitStack, deadline: float) -> None:
        headers = {"cache-control": "no-cache", "x-accel-buffering": "no"}
        super().__init__(events, media_type="text/event-stream", headers=headers)
        self.until = until
        self.deadline = deadline

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self.until, suppress(TimeoutError):
            async with asyncio.timeout_at(self.deadline + LATE_S):
                await super().__call__(scope, receive, send)


async def unless_gone(request: Request, work: Any) -> Response:
    """What the work gives, unless the client leaves before."""
    task = asyncio.ensure_future(work)
    try:
        while not task.done():
            await asyncio.wait({task}, timeout=POLL_S)
            if not task.done() and await request.is_disconnected():
                return Response(status_code=GONE)
        return task.result()
    finally:
        task.cancel()
