"""One model that many ask at the same time: requests join a running batch, and each is answered as if it were alone.

A thread owns the model. Greedy answers in float32 are those of the model alone; in shorter numbers, sums of another
order may round to another token, as in any batch.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import Counter, deque
from collections.abc import Sequence
from functools import partial
from itertools import count

import torch
from torch import Tensor

from mllm.conversation.processor import Processor
from mllm.errors import MllmError, ModelError, RunError, one_line
from mllm.models.base import VisionLanguageModel
from mllm.models.runtime.decoding import ContinuousBatcher
from mllm.models.runtime.prefix_cache import PrefixCache
from mllm.serve.prefill import Prefill, way_of
from mllm.serve.request import (
    Closed,
    EngineStats,
    Finished,
    FinishReason,
    Listener,
    QueueFull,
    Request,
    Ticket,
    by_content,
    prefix_key,
)
from mllm.serve.sampling import NewToken, Sampling, choose
from mllm.serve.stopping import Ends
from mllm.types import EncodedSample

logger = logging.getLogger(__name__)

PREFILL_TOKENS = 4096
"""Tokens of prompts read at once, so that running answers do not wait long; a longer prompt is read alone."""
MOST_SET_BACK = 8
"""How often a request may be begun anew before it fails."""
LAST_STEP_S = 30
"""Seconds that a closing engine is given beyond its time for the pass of the model that runs."""
FAULTS = (MllmError, RuntimeError, ValueError, TypeError, LookupError, ArithmeticError, AssertionError, MemoryError)
"""What a request may cause in a model; torch's lack of memory is a RuntimeError."""


class Engine:
    """Answers requests in a thread of its own until it is closed.

    Args:
        model: in evaluation mode, on `device`; nobody else uses it meanwhile.
        max_rows: requests answered at once.
        max_waiting: requests that wait at most.
        max_tokens: tokens of all requests that are answered at once, padding and what they may still write included;
            the next waits until there is room. It bounds the memory of keys and values. None: any number.
        prefix_cache_bytes: how much of read images is kept for later questions, in bytes of keys and values.

    Raises:
        ModelError: this version of transformers lacks what decoding needs.
    """

    def __init__(
        self,
        model: VisionLanguageModel,
        processor: Processor,
        device: torch.device,
        *,
        max_rows: int = 16,
        max_waiting: int = 64,
        max_tokens: int | None = None,
        prefix_cache_bytes: int = 1 << 30,
    ) -> None:
        self.way, self.obstacle = way_of(model)
        joined = self.way == "joined"
        self._max_rows = 1 if self.way == "alone" else max_rows
        self._max_waiting = max_waiting
        self._max_tokens = math.inf if max_tokens is None else max_tokens
        self._positions = math.inf if processor.positions is None else processor.positions
        self._device = device
        self._ends = Ends(processor)
        self._prefixes = PrefixCache(prefix_cache_bytes)
        self._batcher = ContinuousBatcher(seed=0, evict_finished=joined, max_rows=max_rows if joined else None)
        self._prefill = Prefill(model, processor, device, self._batcher, self._prefixes)
        self._changed = threading.Condition()
        self._waiting: deque[Request] = deque()
        self._running: dict[int, Request] = {}
        self._rows = self._max_rows
        """Rows that memory is known to have room for."""
        self._numbers = count()
        self._deadline: float | None = None
        self._died: RunError | None = None
        self._finished: Counter[str] = Counter()
        self._lately: deque[float] = deque(maxlen=32)
        """When the last requests finished."""
        self._counts: Counter[str] = Counter()
        self._seconds = {"prefill": 0.0, "decode": 0.0}
        self._thread = threading.Thread(target=self._run, name="mllm-engine", daemon=True)
        self._thread.start()

    # what others call

    def submit(self, sample: EncodedSample, sampling: Sampling, listener: Listener) -> Ticket:
        """Queue a request.

        Args:
            sample: a prompt, as `Processor.encode(item, index, answer=False)` gives it.
            sampling: its settings.
            listener: is given each token and then `Finished`, from the engine's thread: it must return at once.

        Raises:
            QueueFull: too many wait.
            Closed: the engine is closing, or has ended.
        """
        with self._changed:
            self._check_open()
        sample = by_content(sample)
        request = Request(
            number=next(self._numbers),
            sample=sample,
            sampling=sampling,
            listener=listener,
            prefix_key=prefix_key(sample) if self.way == "joined" else None,
            room=int(min(sampling.max_new_tokens, max(1, self._positions + 1 - len(sample.input_ids)))),
        )
        with self._changed:
            self._check_open()
            self._waiting.append(request)
            self._changed.notify()
        return Ticket(number=request.number, cancelled=partial(self._cancel, request))

    def stats(self) -> EngineStats:
        """Now; may be asked from any thread."""
        with self._changed:
            return EngineStats(
                way=self.way,
                obstacle=self.obstacle,
                alive=self._thread.is_alive(),
                waiting=len(self._waiting),
                running=len(self._running),
                finished={name: self._finished[name] for name in ("stop", "length", "cancelled", "error")},
                prompt_tokens=self._counts["prompt_tokens"],
                new_tokens=self._counts["new_tokens"],
                steps=self._counts["steps"],
                set_back=self._counts["set_back"],
                prefixes=len(self._prefixes),
                prefix_bytes=self._prefixes.size,
                prefix_hits=self._prefill.hits,
                prefix_reads=self._prefill.reads,
                prefill_s=self._seconds["prefill"],
                decode_s=self._seconds["decode"],
            )

    def close(self, *, drain_s: float) -> None:
        """Refuse new requests, answer those that were taken for at most `drain_s` seconds, and cancel the rest."""
        with self._changed:
            end = time.monotonic() + drain_s
            self._deadline = end if self._deadline is None else min(end, self._deadline)
            self._changed.notify()
        self._thread.join(max(0.0, drain_s) + LAST_STEP_S)

    def _check_open(self) -> None:
        if self._died is not None:
            raise Closed(self._died.reason)
        if self._deadline is not None:
            raise Closed("the server is shutting down")
        if len(self._waiting) >= self._max_waiting:
            raise QueueFull(waiting=len(self._waiting), retry_after_s=self._retry_after())

    def _retry_after(self) -> int:
        """Seconds until one of those that wait begins, by how fast the last ones were answered."""
        if len(self._lately) < 2:
            return 1
        each = (self._lately[-1] - self._lately[0]) / (len(self._lately) - 1)
        return min(60, max(1, math.ceil(each * len(self._waiting) / 2)))

    def _cancel(self, request: Request) -> None:
        with self._changed:
            request.cancelled = True
            self._changed.notify()

    # the engine's thread

    def _run(self) -> None:
        try:
            with torch.no_grad():
                while self._wait():
                    self._turn()
        except BaseException as error:
            self._died = RunError(f"the engine has ended: {type(error).__name__}: {one_line(error)}")
            raise
        finally:
            with self._changed:
                left = [*self._running.values(), *self._waiting]
                self._waiting.clear()
            for request in left:
                self._finish(request, "cancelled" if self._died is None else "error", self._died)
            self._batcher.clear()
            self._prefixes.clear()

    def _wait(self) -> bool:
        """Until there is something to do; False: the engine is to end."""
        with self._changed:
            while not (self._waiting or self._running):
                if self._deadline is not None:
                    return False
                self._changed.wait()
            return not self._late

    @property
    def _late(self) -> bool:
        return self._deadline is not None and time.monotonic() > self._deadline

    def _turn(self) -> None:
        """Begin what there is room for, then one more token for all."""
        taken = self._take()
        if taken:
            start = time.perf_counter()
            with_prefix = [request for request in taken if request.prefix_key is not None]
            for group in (with_prefix, [request for request in taken if request.prefix_key is None]):
                self._begin(group)
            self._seconds["prefill"] += time.perf_counter() - start
        if self._batcher.items:
            start = time.perf_counter()
            self._step()
            self._seconds["decode"] += time.perf_counter() - start

    def _take(self) -> list[Request]:
        """The first that wait, as many as there is room for."""
        taken: list[Request] = []
        unread = 0
        gone: list[tuple[Request, FinishReason, MllmError | None]] = []
        with self._changed:
            for request in [each for each in self._waiting if each.cancelled]:
                self._waiting.remove(request)
                gone.append((request, "cancelled", None))
            while self._waiting and (self.way == "joined" or not self._running):
                request = self._waiting[0]
                if error := self._too_long(request):
                    gone.append((self._waiting.popleft(), "error", error))
                    continue
                others = [*self._running.values(), *taken]
                longest = max(each.columns for each in (*others, request))
                full = len(others) >= min(self._rows, self._max_rows)
                full = full or (len(others) + 1) * longest > self._max_tokens
                unread += self._prefill.unread(request)
                if full or (taken and unread > PREFILL_TOKENS):
                    break
                taken.append(self._waiting.popleft())
        for request, reason, error in gone:
            self._finish(request, reason, error)
        return taken

    def _too_long(self, request: Request) -> ModelError | None:
        length = len(request.sample.input_ids)
        if length > self._positions:
            expected = f"a prompt of at most {self._positions:,} tokens, the most that the language model reads"
            return ModelError(expected=expected, found=f"{length:,}")
        if request.columns > self._max_tokens:
            expected = f"at most {self._max_tokens:,} tokens, those of the prompt and of the answer it asks for"
            return ModelError(expected=expected, found=f"{length:,} and {request.room:,}")
        return None

    def _begin(self, group: Sequence[Request], *, again: bool = False) -> None:
        """Read prompts together; what fails together is tried one by one, and what lacks memory once more without
        what is kept."""
        if not group:
            return
        shared = group[0].prefix_key is not None
        with self._changed:
            for request in group:
                self._running[request.number] = request
                self._counts["prompt_tokens"] += 0 if request.set_back or again else len(request.sample.input_ids)
        try:
            self._prefill.begin(group, self._choose, shared=shared)
            return
        except FAULTS as error:
            failure, memory = request_error(error), lacks_memory(error)
        began = self._batcher.items
        with self._changed:
            left = [self._running.pop(each.number) for each in group if each.number in self._running]
        others = [each for number, each in self._running.items() if number not in began]
        self._set_back(others)
        if memory:
            self._free()
            self._rows = max(1, len(others) or self._rows)
        if len(left) > 1 or (left and memory and not again):
            for request in left:
                self._begin([request], again=True)
        elif left:
            self._finish(left[0], "error", failure)

    def _step(self) -> None:
        """One more token for all. What fails together is begun again in fewer rows, and what fails alone has failed."""
        try:
            self._batcher.step()
            return
        except FAULTS as error:
            failure = request_error(error)
        lost = list(self._running.values())
        self._free()
        if len(lost) == 1:
            self._finish(lost[0], "error", failure)
            return
        self._rows = max(1, len(lost) // 2)
        for request in [request for request in lost if request.set_back == MOST_SET_BACK]:
            self._finish(request, "error", failure)
            lost.remove(request)
        self._set_back(lost)

    def _set_back(self, lost: Sequence[Request]) -> None:
        """These wait again, before all others and in their order; what they have answered stays."""
        with self._changed:
            for request in lost:
                del self._running[request.number]
                request.set_back += 1
                self._counts["set_back"] += 1
            self._waiting.extendleft(reversed(lost))

    def _free(self) -> None:
        """Give back memory that is only kept for speed."""
        self._prefixes.clear()
        if self._device.type == "cuda":
            torch.cuda.empty_cache()

    def _choose(
        self, items: Sequence[int], ids: Sequence[Tensor], logits_RV: Tensor, scores_RV: Tensor
    ) -> tuple[list[int], list[bool]]:
        """As `Choose`: a token for each row, which is handed on."""
        self._counts["steps"] += 1
        requests = {row: self._running[item] for row, item in enumerate(items) if item in self._running}
        rows = {row: request.row for row, request in requests.items()}
        tokens, chosen = choose(rows, ids, logits_RV, scores_RV)
        ended = [row not in requests or self._hand_on(requests[row], chosen[row]) for row in range(len(items))]
        return tokens, ended

    def _hand_on(self, request: Request, chosen: NewToken | ModelError) -> bool:
        """Give the listener a token; whether the answer has ended."""
        if request.cancelled or self._late:
            self._finish(request, "cancelled")
        elif isinstance(chosen, ModelError):
            self._finish(request, "error", chosen)
        else:
            request.new.append(chosen.id)
            self._counts["new_tokens"] += 1
            self._tell(request, chosen)
            if self._ends.reached(request):
                self._finish(request, "stop")
            elif len(request.new) >= request.room:
                self._finish(request, "length")
        return request.number not in self._running

    def _finish(self, request: Request, reason: FinishReason, error: MllmError | None = None) -> None:
        with self._changed:
            self._running.pop(request.number, None)
            self._finished[reason] += 1
            if reason in ("stop", "length"):
                self._lately.append(time.monotonic())
                self._rows = min(self._max_rows, self._rows + 1)
        if error is not None:
            logger.warning("request %d: %s", request.number, error)
        self._tell(request, Finished(reason=reason, error=error))

    def _tell(self, request: Request, news: NewToken | Finished) -> None:
        """A listener whose event loop has gone raises a RuntimeError: nobody waits for the answer any more."""
        try:
            request.listener(news)
        except RuntimeError as error:
            logger.warning("request %d: its listener: %s", request.number, one_line(error))
            request.cancelled = True


def lacks_memory(error: BaseException) -> bool:
    """Whether memory ran out, on a GPU or on the host."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error)


def request_error(error: BaseException) -> MllmError:
    """What a request failed by, as an error that holds no tensor of the pass that failed."""
    if isinstance(error, MllmError):
        return error.with_traceback(None)
    if lacks_memory(error):
        return RunError(f"memory ran out: {one_line(error)}")
    return RunError(f"{type(error).__name__}: {one_line(error)}")
