"""What `POST /v1/chat/completions` takes: OpenAI's fields, the usual ones beyond, and regions.

Unknown fields are refused by name, and so are those whose wish this server cannot fulfil.
Source: OpenAI's API reference; `top_k`, `min_p` and `repetition_penalty` as vLLM names them.
"""

from __future__ import annotations

import random
import secrets
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from mllm.serve.api.limits import Limits
from mllm.serve.api.problems import Problem
from mllm.serve.sampling import Sampling

DEFAULT_TOKENS = 256
"""Of an answer, where the request does not say how many."""
MAX_ENTRIES = Field(max_length=1000)
"""Entries of a list: checking the million that fit into a request takes minutes."""
Coordinates = Annotated[list[float], Field(min_length=4, max_length=4)]
Pair = Annotated[list[float], Field(min_length=2, max_length=2)]


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, strict=True)


class TextPart(Strict):
    type: Literal["text"]
    text: str


class ImageUrl(Strict):
    url: str
    detail: Literal["auto", "high"] | None = None
    """Images are read as the model was trained; "low" is refused."""


class ImagePart(Strict):
    type: Literal["image_url"]
    image_url: ImageUrl
    time: Annotated[float, Field(ge=0)] | None = None
    """Of a frame of a video: seconds from its beginning."""


class AnsweredRegion(BaseModel):
    """A region of an answer, of which only the image is read."""

    model_config = ConfigDict(strict=True)

    image: Annotated[int, Field(ge=0)] = 0


class ChatMessage(Strict):
    """As clients write it, and as they send back an answer that they got."""

    role: Literal["system", "developer", "user", "assistant"]
    content: Annotated[list[Annotated[TextPart | ImagePart, Field(discriminator="type")]], MAX_ENTRIES]
    name: str | None = None
    refusal: None = None
    annotations: Annotated[list[Any], Field(max_length=0)] | None = None
    audio: None = None
    function_call: None = None
    tool_calls: Annotated[list[Any], Field(max_length=0)] | None = None
    regions: Annotated[list[AnsweredRegion], MAX_ENTRIES] | None = None
    """Of an answer that is sent back; its words hold them."""
    time_spans: Annotated[list[Pair], MAX_ENTRIES] | None = None
    """Likewise."""

    @field_validator("content", mode="before")
    @classmethod
    def _parts(cls, value: Any) -> Any:
        if not isinstance(value, str | list):
            raise ValueError("expected a text or a list of parts")
        return [{"type": "text", "text": value}] if isinstance(value, str) else value

    @model_validator(mode="after")
    def _check(self) -> ChatMessage:
        if self.role == "user" and self.regions is not None:
            raise ValueError("the regions of a question belong into the request, not into its message")
        if self.role != "user" and any(part.type == "image_url" for part in self.content):
            raise ValueError(f"expected text in a message of the {self.role}, found an image")
        return self


class InputRegion(Strict):
    """A box or a point, or several, for the next `<boxes>` or `<points>` of the questions."""

    image: Annotated[int, Field(ge=0)] = 0
    """Index among all images of the conversation."""
    boxes: Annotated[list[Coordinates], Field(min_length=1), MAX_ENTRIES] | None = None
    """x1, y1, x2, y2 in pixels of the image as it is shown upright."""
    points: Annotated[list[Pair], Field(min_length=1), MAX_ENTRIES] | None = None

    @model_validator(mode="after")
    def _check(self) -> InputRegion:
        if (self.boxes is None) == (self.points is None):
            raise ValueError("expected either boxes or points")
        for number, (x1, y1, x2, y2) in enumerate(self.boxes or ()):
            if x1 > x2 or y1 > y2:
                found = ", ".join(f"{value:.10g}" for value in (x1, y1, x2, y2))
                raise ValueError(f"boxes[{number}]: expected x1 <= x2 and y1 <= y2, found [{found}]")
        return self


class StreamOptions(Strict):
    include_usage: bool = False
    include_obfuscation: Literal[False] = False


class ResponseFormat(Strict):
    type: Literal["text"]


class ChatRequest(Strict):
    model: str
    messages: Annotated[list[ChatMessage], Field(min_length=1), MAX_ENTRIES]
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    """Default 0: the most likely answer."""
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=-1)] | None = None
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    repetition_penalty: Annotated[float, Field(gt=0)] | None = None
    n: Annotated[int, Field(ge=1)] | None = None
    seed: int | None = None
    stop: str | Annotated[list[str], Field(max_length=4)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    user: str | None = None
    response_format: ResponseFormat | None = None
    presence_penalty: Literal[0] | None = None
    frequency_penalty: Literal[0] | None = None
    logit_bias: Annotated[dict[str, float], Field(max_length=0)] | None = None
    regions: Annotated[list[InputRegion], MAX_ENTRIES] | None = None
    """What the `<boxes>` and `<points>` of the questions stand for, in order."""
    answer_image: Annotated[int, Field(ge=0)] | None = None
    """The index of the image that the answer is about, where question and regions do not show it."""
    image_sizes: Annotated[list[Annotated[list[int], Field(min_length=2, max_length=2)] | None], MAX_ENTRIES] | None = (
        None
    )
    """Width and height of each image as the client shows it; another size here is an error."""

    video_duration: Annotated[float, Field(gt=0)] | None = None
    """Seconds of the video whose frames have a `time`; a time span that begins later is out of range."""

    @field_validator("presence_penalty", "frequency_penalty", mode="before")
    @classmethod
    def _zero(cls, value: object) -> Any:
        return 0 if value == 0 else value

    @model_validator(mode="after")
    def _check(self) -> ChatRequest:
        if self.messages[-1].role != "user":
            raise ValueError(
                f"messages: expected the user's message at the end, found one of the {self.messages[-1].role}"
            )
        if self.max_tokens and self.max_completion_tokens and self.max_tokens != self.max_completion_tokens:
            raise ValueError("max_tokens: expected the same as max_completion_tokens, or one of them alone")
        if self.stream_options is not None and not self.stream:
            raise ValueError("stream_options: expected stream=true with them")
        if self.top_logprobs and not self.logprobs:
            raise ValueError("top_logprobs: expected logprobs=true with them")
        if self.stop is not None and not all(self.stops):
            raise ValueError("stop: expected words, found an empty text")
        return self

    @property
    def stops(self) -> tuple[str, ...]:
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())

    @property
    def choices(self) -> int:
        return self.n or 1

    def samplings(self, limits: Limits) -> list[Sampling]:
        """The settings of each choice.

        Raises:
            Problem: more tokens or choices than the server allows.
        ConfigError: a value that `Sampling` does not take.
        """
        tokens = self.max_completion_tokens or self.max_tokens or min(DEFAULT_TOKENS, limits.max_new_tokens)
        bounds = (("max_tokens", tokens, limits.max_new_tokens), ("n", self.choices, limits.max_choices))
        for name, value, most in bounds:
            check_most(name, value, most)
        return [
            Sampling(
                max_new_tokens=tokens,
                temperature=self.temperature or 0.0,
                top_p=1.0 if self.top_p is None else self.top_p,
                top_k=max(0, self.top_k or 0),
                min_p=self.min_p or 0.0,
                repetition_penalty=self.repetition_penalty or 1.0,
                seed=seed_of(self.seed, choice),
                stop=self.stops,
                logprobs=(self.top_logprobs or 0) if self.logprobs else None,
            )
            for choice in range(self.choices)
        ]


def check_most(name: str, value: int, most: int) -> None:
    """
    Raises:
        Problem: the value of this field exceeds the server's bound.
    """
    if value > most:
        raise Problem(400, f"{name}: expected at most {most}, found {value}", param=name)


def seed_of(given: int | None, choice: int = 0) -> int:
    """Each choice has its own, the first the request's; a request without a seed gets another one each time."""
    if given is None:
        return secrets.randbits(48)
    return random.Random(f"choice {given} {choice}").getrandbits(48) if choice else given
