"""What the engine is asked, and what it hands back."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from torch import Tensor

from mllm.conversation.detokenizer import Detokenizer
from mllm.errors import MllmError, RunError
from mllm.serve.sampling import NewToken, SampledRow, Sampling
from mllm.types import EncodedSample

FinishReason = Literal["stop", "length", "cancelled", "error"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """The end of an answer: at a token or text that ends it, cut at a length, by the asker, or by an error."""

    reason: FinishReason
    error: MllmError | None = None


Listener = Callable[[NewToken | Finished], None]


class QueueFull(RunError):
    """As many requests wait as may.

    Attributes:
        waiting: how many.
        retry_after_s: seconds after which there is likely to be room, from 1 on.
    """

    def __init__(self, *, waiting: int, retry_after_s: int) -> None:
        super().__init__(f"{waiting} requests wait already; try again in {retry_after_s} s")
        self.waiting = waiting
        self.retry_after_s = retry_after_s


class Closed(RunError):
    """The engine takes no more requests."""


@dataclass(slots=True, kw_only=True, eq=False)
class Request:
    """A question that waits or is answered; the engine's own view of it."""

    number: int
    sample: EncodedSample
    """Its prompt, `by_content`."""
    sampling: Sampling
    listener: Listener
    prefix_key: Hashable | None
    """Of the beginning that holds its images, see `prefix_key`."""
    room: int
    """Tokens that its answer may have."""
    new: list[int] = field(default_factory=list)
    words: Detokenizer | None = None
    """Of the answer, where a text may end it."""
    cancelled: bool = False
    set_back: int = 0
    """How often it was begun and had to wait again."""

    @property
    def ids_T(self) -> Tensor:
        """int64 [T]: its prompt, with what is answered already."""
        ids_T = self.sample.input_ids
        return torch.cat([ids_T, ids_T.new_tensor(self.new)]) if self.new else ids_T

    @property
    def row(self) -> SampledRow:
        return SampledRow(sampling=self.sampling, prompt=len(self.sample.input_ids), new=self.new)

    @property
    def columns(self) -> int:
        """Of the cache, that it may take at most."""
        return len(self.sample.input_ids) + self.room


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticket:
    """The handle of a request."""

    number: int
    cancelled: Callable[[], None] = field(repr=False)

    def cancel(self) -> None:
        """End the answer, within a token; the listener gets `Finished("cancelled")` unless it is finished already."""
        self.cancelled()


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineStats:
    """Counts since the engine was made, and what it holds now."""

    way: str
    """`joined`: requests join a running batch; `together`: those that wait begin when all before have finished;
    `alone`: one after the other."""
    obstacle: str | None
    """Why they do not join."""
    alive: bool
    waiting: int
    running: int
    finished: dict[str, int]
    """By the reason."""
    prompt_tokens: int
    """Of the requests that began."""
    new_tokens: int
    steps: int
    """Passes of the model in which requests got a token, the first ones included."""
    set_back: int
    """How often a request had to wait again for lack of memory."""
    prefixes: int
    """Beginnings with images that are kept."""
    prefix_bytes: int
    prefix_hits: int
    """Requests whose beginning had been read before them."""
    prefix_reads: int
    prefill_s: float
    """Seconds in which requests were begun; where they do not join, these hold the whole answers."""
    decode_s: float
    """Seconds of the other steps."""


def by_content(sample: EncodedSample) -> EncodedSample:
    """The sample with hashes of what the model sees in place of its references to images: whoever sends an image, and
    under whatever name, it is the same."""
    images: Any = tuple(map(_hash, sample.pixels))
    return replace(sample, images=images)


def prefix_key(sample: EncodedSample) -> Hashable | None:
    """What the beginning up to the last image is known by, of a sample `by_content`.

    None: there is no image, or nothing follows the last one.
    """
    if not sample.images_end or sample.images_end >= len(sample.input_ids):
        return None
    return sample.images, _bytes(sample.input_ids[: sample.images_end]).tobytes()


def _hash(image: Mapping[str, Tensor]) -> bytes:
    digest = hashlib.sha256()
    for name in sorted(image):
        digest.update(f"{name} {image[name].dtype} {tuple(image[name].shape)}".encode())
        digest.update(_bytes(image[name]))
    return digest.digest()


def _bytes(tensor: Tensor) -> Any:
    return tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()
