"""A model that answers requests: one that is loaded here, behind an `Engine`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Protocol

from mllm.conversation.processor import Processor
from mllm.serve.api.problems import Problem, of_error
from mllm.serve.engine import Engine
from mllm.serve.question import Message, to_item
from mllm.serve.reading import Answer, AnswerReader, Region, with_typed_answers
from mllm.serve.request import Closed, Finished, QueueFull, Ticket
from mllm.serve.sampling import NewToken, Sampling
from mllm.types import EncodedSample, Item

FinishReason = Literal["stop", "length"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedQuestion:
    """A question that a model can begin with."""

    item: Item
    prompt_tokens: int = 0
    """0 where a backend counts them."""
    sample: EncodedSample | None = None
    """As a model here reads it."""
    messages: Sequence[Any] = ()
    """As a backend gets it."""
    beyond: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Fields of its request that OpenAI does not have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenLogProb:
    """A token's text and log-probability, and those of the likeliest tokens in its place."""

    text: str
    logprob: float
    top: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Delta:
    """What an answer grows by."""

    text: str = ""
    regions: Sequence[dict[str, Any]] = ()
    """As `Region.to_dict` gives them."""
    tokens: int = 1
    logprobs: tuple[TokenLogProb, ...] = ()
    usage: tuple[int, int] | None = None
    """Tokens of question and answer as a backend counts them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """All words and regions of an answer, and why it ended."""

    text: str
    regions: Sequence[dict[str, Any]]
    reason: FinishReason
    time_spans: Sequence[Sequence[float]] | None = None
    """Of an answer about a video: [start, end] in seconds."""


class RunningAnswer(Protocol):
    """An answer under way."""

    def take(self, event: Any) -> Sequence[Delta | End]:
        """What one of its events says.

        Raises:
            Problem: the generation failed.
        """
        ...

    def cancel(self) -> None:
        """End it, if it has not ended."""
        ...


class ServedModel(Protocol):
    """What the routes ask of a model."""

    name: str
    context: int | None
    """Tokens that it was made to read; None where that is not known."""

    def card(self) -> dict[str, Any]:
        """What people want to know of it: type, codec, template."""
        ...

    def prepare(self, messages: Sequence[Message], answer_image: int | None) -> PreparedQuestion:
        """Read a conversation; takes a while, and is called in another thread.

        Raises:
            DataError: names what is wrong with its words, regions or images.
        """
        ...

    def start(self, question: PreparedQuestion, sampling: Sampling, put: Callable[[Any], None]) -> RunningAnswer:
        """Begin an answer, in the event loop; `put` takes its events, for `Generation.take`, from any thread.

        Raises:
            Problem: no place is free.
        """
        ...

    def alive(self) -> bool:
        """Whether it can still answer."""
        ...

    def numbers(self) -> dict[str, float]:
        """For `/metrics`: rows that run and wait, tokens, cached readings, ..."""
        ...

    def close(self) -> None:
        """Give up what it holds."""


class LocalModel:
    """A model in this process."""

    def __init__(
        self, name: str, processor: Processor, engine: Engine, card: dict[str, Any], *, context: int | None = None
    ) -> None:
        self.name = name
        self.context = context
        self.processor = processor
        self.engine = engine
        self._card = card

    def card(self) -> dict[str, Any]:
        return self._card

    def prepare(self, messages: Sequence[Message], answer_image: int | None) -> PreparedQuestion:
        item = to_item(with_typed_answers(messages, self.processor), answer_image=answer_image)
        sample = self.processor.encode(item, 0, answer=False)
        return PreparedQuestion(item=item, sample=sample, prompt_tokens=len(sample.input_ids))

    def start(self, question: PreparedQuestion, sampling: Sampling, put: Callable[[Any], None]) -> RunningAnswer:
        assert question.sample is not None
        try:
            ticket = self.engine.submit(question.sample, sampling, put)
        except QueueFull as error:
            raise queue_full(error.waiting, error.retry_after_s) from error
        except Closed as error:
            raise Problem(503, error.reason, code="stopping", retry_after=5) from error
        return LocalGeneration(self.processor, AnswerReader(self.processor, question.item, stop=sampling.stop), ticket)

    def alive(self) -> bool:
        return self.engine.stats().alive

    def numbers(self) -> dict[str, float]:
        """Those of the engine, its requests by how they ended among them."""
        stats = asdict(self.engine.stats())
        finished = {f"finished_{reason}": count for reason, count in stats.pop("finished").items()}
        return {name: float(value) for name, value in (stats | finished).items() if isinstance(value, int | float)}

    def close(self) -> None:
        self.engine.close(drain_s=0)


class LocalGeneration:
    def __init__(self, processor: Processor, reader: AnswerReader, ticket: Ticket) -> None:
        self.processor = processor
        self.reader = reader
        self.ticket = ticket

    def take(self, event: NewToken | Finished) -> Sequence[Delta | End]:
        if isinstance(event, NewToken):
            piece = self.reader.add(event.id)
            return [Delta(text=piece.text, regions=dicts(piece.regions), logprobs=self._logprobs(event))]
        if event.error is not None:
            raise of_error(event.error)
        if event.reason == "cancelled":  # by the engine, which closes
            raise Problem(503, "the server stopped before the answer was complete", code="stopping", retry_after=5)
        piece, answer = self.reader.finish()
        reason = "length" if event.reason == "length" else "stop"
        return [Delta(text=piece.text, regions=dicts(piece.regions), tokens=0), end_of(answer, reason)]

    def cancel(self) -> None:
        self.ticket.cancel()

    def _logprobs(self, token: NewToken) -> tuple[TokenLogProb, ...]:
        tokenizer: Any = self.processor.tokenizer
        if token.logprob is None or self.processor.ends(token.id):
            return ()

        def text(number: int) -> str:
            return tokenizer.decode([number], skip_special_tokens=False)

        top = tuple((text(number), logprob) for number, logprob in token.top)
        return (TokenLogProb(text=text(token.id), logprob=token.logprob, top=top),)


def end_of(answer: Answer, reason: FinishReason) -> End:
    spans = answer.seconds if answer.item.has_time else None
    return End(text=answer.text, regions=dicts(answer.regions), reason=reason, time_spans=spans)


def dicts(regions: Sequence[Region]) -> list[dict[str, Any]]:
    """The regions for JSON."""
    return [region.to_dict() for region in regions]


def queue_full(waiting: int, retry_after_s: float) -> Problem:
    message = f"the queue is full: {waiting} requests are here; try again in {max(1, round(retry_after_s))} s"
    return Problem(429, message, code="queue_full", retry_after=retry_after_s)
