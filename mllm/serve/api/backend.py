"""Models behind other OpenAI-compatible servers: their engine answers; bounds, keys, page and old clients are ours.

Of any server but ours (vLLM, SGLang, a vendor's) the words are read here: the question goes there as `mllm predict
--api` sends it, regions as words of the codec and each image as the codec's convention places it, so that the
coordinates of the answer are read in the very frame that was sent. A server of `mllm serve` gets the regions as they
came, and gives its own.
"""

from __future__ import annotations

import asyncio
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from mllm.conversation.codec_base import phrase_marks
from mllm.conversation.convention import CanvasPlacement, Convention, make_convention
from mllm.conversation.pixels import PixelCodec
from mllm.errors import ConfigError, one_line
from mllm.fields import show
from mllm.images import VideoFrame
from mllm.pipeline.remote import SIDE, codec_of_answer, png_data_url, read_answer_in, to_openai_messages
from mllm.serve.api.problems import Problem
from mllm.serve.api.served import (
    Delta,
    End,
    FinishReason,
    PreparedQuestion,
    RunningAnswer,
    ServedModel,
    TokenLogProb,
    dicts,
    end_of,
)
from mllm.serve.question import Message, to_item
from mllm.serve.reading import AnswerReader, with_typed_answers
from mllm.serve.sampling import Sampling
from mllm.types import IMAGE, Item, Prediction


class BackendModel(ServedModel, ABC):
    """The model `name` at each of the `urls`, which end in `/v1`; the least busy one is asked.

    Raises:
        ConfigError: the client is not installed.
    """

    def __init__(self, name: str, urls: Sequence[str], card: dict[str, Any], *, timeout: float) -> None:
        self.name = name
        self.context = None
        self.clients = [client(url, timeout) for url in urls]
        self.running = [0] * len(urls)
        self._card = card

    def card(self) -> dict[str, Any]:
        return self._card

    @abstractmethod
    def prepare(self, messages: Sequence[Message], answer_image: int | None) -> PreparedQuestion: ...

    @abstractmethod
    def reader(self, question: PreparedQuestion, sampling: Sampling) -> StreamReader: ...

    def start(self, question: PreparedQuestion, sampling: Sampling, put: Callable[[Any], None]) -> RunningAnswer:
        task = asyncio.ensure_future(self._stream(question, sampling, put))
        task.add_done_callback(lambda done: None if done.cancelled() else put(done.exception()))
        return BackendGeneration(self.reader(question, sampling), task)

    async def _stream(self, question: PreparedQuestion, sampling: Sampling, put: Callable[[Any], None]) -> None:
        """Hand on each chunk; whoever began this hears how it ended."""
        place = self.running.index(min(self.running))
        self.running[place] += 1
        arguments = _arguments(sampling)
        try:
            stream = await self.clients[place].chat.completions.create(
                model=self.name,
                messages=question.messages,
                stream=True,
                stream_options={"include_usage": True},
                **arguments,
                extra_body={**_beyond(sampling), **question.beyond},
            )
            async for chunk in stream:
                put(chunk)
        finally:
            self.running[place] -= 1

    def alive(self) -> bool:
        return True

    def numbers(self) -> dict[str, float]:
        return {"running": float(sum(self.running))}


class EngineModel(BackendModel):
    """A model of which the convention is known."""

    def __init__(
        self,
        name: str,
        urls: Sequence[str],
        *,
        codec: str,
        placement: CanvasPlacement | None = None,
        timeout: float = 300.0,
    ) -> None:
        self.words = ConventionReader(make_convention(codec, placement=placement, image_size=SIDE))
        marks = list(phrase_marks(self.words.convention.codec) or ())
        card = {"type": "backend", "codec": codec, "placement": placement, "phrase_marks": marks}
        super().__init__(name, urls, card, timeout=timeout)

    def prepare(self, messages: Sequence[Message], answer_image: int | None) -> PreparedQuestion:
        item = to_item(with_typed_answers(messages, self.words), answer_image=answer_image)
        return PreparedQuestion(item=item, messages=to_openai_messages(item, self.words.convention))

    def reader(self, question: PreparedQuestion, sampling: Sampling) -> StreamReader:
        return WordsReader(AnswerReader(self.words, question.item, stop=sampling.stop))


class MllmModel(BackendModel):
    """A model behind another `mllm serve`."""

    def prepare(self, messages: Sequence[Message], answer_image: int | None) -> PreparedQuestion:
        item = to_item(messages, answer_image=answer_image)
        regions = [
            {"image": group[0].image, kind: [list(numbers(region)) for region in group]}
            for kind, numbers in (("boxes", lambda box: box.xyxy), ("points", lambda point: point.xy))
            for message in messages
            if message.role == "user"
            for group in getattr(message, kind)
        ]
        beyond: dict[str, Any] = {"regions": regions} if regions else {}
        if answer_image is not None:
            beyond["answer_image"] = answer_image
        if item.duration is not None:
            beyond["video_duration"] = item.duration
        return PreparedQuestion(item=item, messages=[_passed_on(message) for message in messages], beyond=beyond)

    def reader(self, question: PreparedQuestion, sampling: Sampling) -> StreamReader:
        return PassedOn()


def _passed_on(message: Message) -> dict[str, object]:
    """A message as it came, its images upright and as PNG."""
    if message.role != "user":
        return {"role": message.role, "content": message.text}
    images = iter(message.images)
    parts: list[dict[str, Any]] = []
    for number, words in enumerate(message.text.split(IMAGE)):
        if number:
            image: Any = next(images)
            time = {"time": image.time} if isinstance(image, VideoFrame) else {}
            parts.append({"type": "image_url", "image_url": {"url": png_data_url(image.open())}, **time})
        if text := words.removeprefix("\n") if parts else words:
            parts.append({"type": "text", "text": text})
    return {"role": "user", "content": parts}


class StreamReader(ABC):
    """Reads what a backend streams."""

    @abstractmethod
    def add(self, delta: Any) -> tuple[str, list[dict[str, Any]]]:
        """The words and regions that a delta brings."""

    @abstractmethod
    def finish(self, reason: FinishReason) -> tuple[Delta, End]:
        """The words and regions held back, then the whole answer."""


class WordsReader(StreamReader):
    def __init__(self, reader: AnswerReader) -> None:
        self.reader = reader

    def add(self, delta: Any) -> tuple[str, list[dict[str, Any]]]:
        piece = self.reader.add_text(delta.content or "")
        return piece.text, dicts(piece.regions)

    def finish(self, reason: FinishReason) -> tuple[Delta, End]:
        piece, answer = self.reader.finish()
        return Delta(text=piece.text, regions=dicts(piece.regions), tokens=0), end_of(answer, reason)


class PassedOn(StreamReader):
    def __init__(self) -> None:
        self.text = ""
        self.regions: list[dict[str, Any]] = []
        self.time_spans: list[list[float]] | None = None

    def add(self, delta: Any) -> tuple[str, list[dict[str, Any]]]:
        text, regions = delta.content or "", getattr(delta, "regions", None) or []
        self.text += text
        self.regions += regions
        self.time_spans = getattr(delta, "time_spans", self.time_spans)
        return text, regions

    def finish(self, reason: FinishReason) -> tuple[Delta, End]:
        end = End(text=self.text, regions=self.regions, reason=reason, time_spans=self.time_spans)
        return Delta(tokens=0), end


class BackendGeneration:
    def __init__(self, reader: StreamReader, task: asyncio.Task[None]) -> None:
        self.reader = reader
        self.task = task
        self.reason: str | None = None

    def take(self, event: object) -> Sequence[Delta | End]:
        if event is None:
            if self.reason is None:
                raise Problem(502, "the backend failed: its stream ended before the answer", code="backend")
            return self.reader.finish("length" if self.reason == "length" else "stop")
        if isinstance(event, Exception):
            raise _refused(event)
        try:
            return self._read(event)
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            message = f"the backend failed: it sent a chunk that OpenAI's API does not have: {one_line(error)[:200]}"
            raise Problem(502, message, code="backend") from error

    def _read(self, event: Any) -> Sequence[Delta | End]:
        if not event.choices:
            used = event.usage
            return [Delta(tokens=0, usage=(_count(used.prompt_tokens), _count(used.completion_tokens)))] if used else []
        choice = event.choices[0]
        self.reason = choice.finish_reason or self.reason
        text, regions = self.reader.add(choice.delta)
        logprobs = _logprobs(choice.logprobs)
        return [Delta(text=text, regions=regions, logprobs=logprobs)] if text or regions or logprobs else []

    def cancel(self) -> None:
        self.task.cancel()


@dataclass(frozen=True, slots=True)
class ConventionReader:
    """Reads the answers of a model of which nothing but the convention is known, as a `Processor` does."""

    convention: Convention
    tokenizer: None = None
    stop: str = ""
    end_token_id: int = -1
    """No token, and no words, end an answer that comes as words."""
    begun: str = ""

    def opens(self, token: int) -> bool:
        raise NotImplementedError("a backend gives words, no tokens")

    def ends(self, token: int) -> bool:
        raise NotImplementedError("a backend gives words, no tokens")

    def codec_of_answer(self, item: Item, image: int | None = None) -> PixelCodec | None:
        return codec_of_answer(item, self.convention, image)

    def read(self, text: str, item: Item, index: int, *, image: int | None = None) -> Prediction:
        return read_answer_in(text, item, index, self.convention, image=image)


def client(url: str, timeout: float) -> Any:
    """The official client, whose key is in OPENAI_API_KEY."""
    try:
        from openai import AsyncOpenAI
    except ImportError as error:
        raise ConfigError("--backend needs the package openai: pip install 'mllm[api]'") from error
    key = os.environ.get("OPENAI_API_KEY", "none")
    return AsyncOpenAI(base_url=url, api_key=key, max_retries=2, timeout=timeout)


def _arguments(sampling: Sampling) -> dict[str, Any]:
    """OpenAI's fields."""
    return {
        "max_tokens": sampling.max_new_tokens,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "seed": sampling.seed,
        **({"stop": list(sampling.stop)} if sampling.stop else {}),
        **({"logprobs": True, "top_logprobs": sampling.logprobs} if sampling.logprobs is not None else {}),
    }


def _beyond(sampling: Sampling) -> dict[str, object]:
    """Fields that vLLM, SGLang and mllm add, where they say something."""
    values = (
        ("top_k", sampling.top_k, 0),
        ("min_p", sampling.min_p, 0.0),
        ("repetition_penalty", sampling.repetition_penalty, 1.0),
    )
    return {name: value for name, value, nothing in values if value != nothing}


def _logprobs(found: Any) -> tuple[TokenLogProb, ...]:
    return tuple(
        TokenLogProb(
            text=token.token,
            logprob=token.logprob,
            top=tuple((other.token, other.logprob) for other in token.top_logprobs or ()),
        )
        for token in (found.content or () if found else ())
    )


def _count(value: object) -> int:
    if not isinstance(value, int) or value < 0:
        raise ValueError(f"usage: expected a number of tokens, found {show(value)}")
    return value


def _refused(error: Exception) -> Problem:
    """An error of the backend as ours: what the client got wrong is its own, the rest is the backend's."""
    status = getattr(error, "status_code", None)
    said = str(getattr(error, "message", error))[:300]
    if status in (400, 413, 422, 429):
        return Problem(status, f"the backend refused the request: {said}", code="backend", retry_after=status == 429)
    return Problem(502, f"the backend failed: {type(error).__name__}: {said}", code="backend")
