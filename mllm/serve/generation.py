"""Items -> token ids of answers, one by one as they come or many at once, by the decoding that evaluation uses."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from queue import SimpleQueue
from typing import Any

import torch
from torch import Tensor
from transformers import StoppingCriteria, StoppingCriteriaList, StopStringCriteria

from mllm.conversation.collator import Collator
from mllm.conversation.processor import Processor
from mllm.errors import ConfigError
from mllm.fields import Count, check, in_field, show
from mllm.generation_args import as_generate_takes_them, check_room, without_effect
from mllm.images import ImageRef, MemoryImage, Video, VideoFrame
from mllm.models.base import VisionLanguageModel
from mllm.models.language_models import context_of
from mllm.models.runtime.decoding import ContinuousBatcher, beams
from mllm.pipeline.evaluate import pads, plan, stop_arguments
from mllm.pipeline.run_checks import check_generation
from mllm.pipeline.train_data import EvalDataset, to_device
from mllm.serve.reading import Answer, AnswerReader, Piece
from mllm.types import Item

MAX_NEW_TOKENS = 256
"""Tokens of an answer, at most, where nothing else is asked for."""
Listener = Callable[[int], bool]
"""Is given each new token, and says whether the answer ends there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationSettings:
    """How an answer is generated.

    Attributes:
        arguments: of transformers' `generate`; greedy, and at most `MAX_NEW_TOKENS`, unless they say otherwise.
        seed: a sampled answer follows from it, and of several questions from their places.
        stop: texts that end an answer, and are none of it.
    """

    arguments: Mapping[str, Any] = field(default_factory=dict[str, Any])
    seed: int = 0
    stop: tuple[str, ...] = ()


def read_generation(given: Mapping[str, object]) -> GenerationSettings:
    """The settings by their names: `seed`, `stop` (a text or several), and those of transformers' `generate`.

    Raises:
        ConfigError: names the setting: an unknown one, a wrong value, or one that has no effect beside the others.
    """
    arguments = {name: value for name, value in given.items() if name not in ("seed", "stop") and value is not None}
    stop: Any = given.get("stop") or ()
    stop = (stop,) if isinstance(stop, str) else stop
    if not isinstance(stop, Sequence) or not all(isinstance(text, str) and text for text in stop):
        raise ConfigError(field="generation.stop", expected="a text, or a list of texts", found=show(given["stop"]))
    seed: Any = given.get("seed") or 0
    in_field("generation.seed", check, seed, Count)
    check_generation(arguments, "generation")
    for reason in without_effect(arguments, "generation"):
        raise ConfigError(reason)
    return GenerationSettings(arguments=arguments, seed=seed, stop=tuple(stop))


class Generator:
    """A model that answers items; one call at a time, others wait."""

    def __init__(self, model: VisionLanguageModel, processor: Processor, device: torch.device) -> None:
        self.model = model
        self.processor = processor
        self.device = device
        self._lock = threading.Lock()

    def token_ids(
        self,
        items: Sequence[Item],
        generation: GenerationSettings,
        *,
        batch_size: int = 1,
        listener: Listener | None = None,
    ) -> list[list[int]]:
        """The new tokens of each item's answer, the one that ends it included.

        Items about the same images share one reading of them where the model can. In float32 an answer is the same
        whatever else is in its batch.

        Args:
            batch_size: items that are decoded together, at most.
            listener: of a single item, without beams.
        """
        with self._lock, torch.no_grad():
            return self._token_ids(items, generation, batch_size, listener)

    def _token_ids(
        self, items: Sequence[Item], generation: GenerationSettings, batch_size: int, listener: Listener | None
    ) -> list[list[int]]:
        processor = self.processor
        shares = self.model.supports_prefix_sharing
        size = batch_size if pads(self.model) else 1
        listed = _Listed(_with_equal_images(items))

        def may_share(item: Item) -> bool:
            return not processor.ends_in_image(item)

        found = plan(listed, size, may_share=may_share if shares and len(items) > 1 else None)
        pad: Any = processor.tokenizer.pad_token_id
        collate = Collator(pad_token_id=pad, packing="shared" if found.sharing else "none")
        batcher = ContinuousBatcher(seed=generation.seed, evict_finished=shares)
        arguments = self._arguments(generation, listener)
        for groups in found.batches:
            encoded = EvalDataset(listed, processor, groups, answer=False)
            batch = to_device(dict(collate([encoded[number] for number in range(len(groups))])), self.device)
            del batch["index"]
            indices = [index for group in groups for index in group]
            batcher.generate(self.model, indices, {**batch, **arguments}, shared=found.sharing)
        batcher.finish()
        answers = batcher.pop_finished()
        return [answers[index] for index in range(len(items))]

    def _arguments(self, generation: GenerationSettings, listener: Listener | None) -> dict[str, Any]:
        ends = stop_arguments(self.processor)
        criteria = [*ends.pop("stopping_criteria", ())]
        if generation.stop:
            criteria.append(StopStringCriteria(self.processor.tokenizer, list(generation.stop)))
        if listener is not None:
            criteria.append(_Listening(listener))
        in_field("generation", check_room, generation.arguments, context_of(self.model.text_model))
        given = as_generate_takes_them(generation.arguments)
        defaults = {"max_new_tokens": MAX_NEW_TOKENS, "do_sample": False, "stopping_criteria": None}
        return {
            **defaults,
            **ends,
            **({"stopping_criteria": StoppingCriteriaList(criteria)} if criteria else {}),
            **given,
        }

    def answers(self, items: Sequence[Item], generation: GenerationSettings, *, batch_size: int) -> list[Answer]:
        """The answer to each item, in order."""
        found = self.token_ids(items, generation, batch_size=batch_size)
        return [self._read(item, ids, generation) for item, ids in zip(items, found, strict=True)]

    def _read(self, item: Item, ids: Sequence[int], generation: GenerationSettings) -> Answer:
        reader = AnswerReader(self.processor, item, stop=generation.stop)
        for token in ids:
            reader.add(token)
        return reader.finish()[1]

    def stream(
        self, item: Item, generation: GenerationSettings, on_answer: Callable[[Answer], None] | None = None
    ) -> AnswerStream:
        """The answer in pieces; `on_answer` is called with it when it is whole."""
        reader = AnswerReader(self.processor, item, stop=generation.stop)
        whole = beams(self.model, generation.arguments) > 1  # nothing is known before the best beam is

        def work(listener: Listener) -> None:
            ids = self.token_ids([item], generation, listener=None if whole else listener)
            for token in ids[0] if whole else ():
                listener(token)

        return AnswerStream(work, reader, on_answer)


class AnswerStream(Iterator[Piece]):
    """The pieces of one answer, while it is generated in a thread of its own.

    `answer` is the whole answer; asking for it waits for the end. `stop` ends the generation within a token, and so
    does leaving a `with` statement.
    """

    def __init__(
        self, work: Callable[[Listener], None], reader: AnswerReader, on_answer: Callable[[Answer], None] | None
    ) -> None:
        self._reader = reader
        self._on_answer = on_answer
        self._answer: Answer | None = None
        self._tokens: SimpleQueue[int | BaseException | None] = SimpleQueue()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(work,), daemon=True)
        self._thread.start()

    @property
    def answer(self) -> Answer:
        """Raises: what the generation raised."""
        for _ in self:
            pass
        assert self._answer is not None, "the last piece comes with the answer"
        return self._answer

    def stop(self) -> None:
        """End the answer here; it then has the finish reason `cancelled`."""
        self._stopped.set()
        self._thread.join()

    def __enter__(self) -> AnswerStream:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def __next__(self) -> Piece:
        while self._answer is None:
            token = self._tokens.get()
            if isinstance(token, BaseException):
                raise token
            piece = self._finish() if token is None else self._reader.add(token)
            if piece.text or piece.regions:
                return piece
        raise StopIteration

    def _run(self, work: Callable[[Listener], None]) -> None:
        end: BaseException | None = None
        try:
            work(self._listen)
        except BaseException as error:  # noqa: BLE001, it is raised where the answer is awaited
            end = error
        self._tokens.put(end)

    def _listen(self, token: int) -> bool:
        self._tokens.put(token)
        return self._stopped.is_set()

    def _finish(self) -> Piece:
        cancelled = self._stopped.is_set() and not self._reader.ended
        piece, self._answer = self._reader.finish("cancelled" if cancelled else None)
        if self._on_answer is not None:
            self._on_answer(self._answer)
        return piece


class _Listening(StoppingCriteria):
    """Hands on the newest token of the only row."""

    def __init__(self, listener: Listener) -> None:
        self.listener = listener

    def __call__(self, input_ids: Tensor, scores: Any, **_: Any) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        ends = self.listener(int(input_ids[0, -1]))
        return torch.full((len(input_ids),), ends, device=input_ids.device)


class _Listed:
    """Items at hand, as evaluation takes them."""

    def __init__(self, items: Sequence[Item]) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Item:
        return self.items[index]

    def set_epoch(self, epoch: int | None) -> None:
        """They are the same in every epoch."""


def _with_equal_images(items: Sequence[Item]) -> list[Item]:
    """The items, where one PIL image has one reference, so that questions about it share its reading."""
    known: dict[int, MemoryImage] = {}

    def same(ref: ImageRef) -> ImageRef:
        if isinstance(ref, Video):
            return Video(tuple(map(same, ref.frames)))
        if isinstance(ref, VideoFrame):
            return replace(ref, ref=same(ref.ref))
        return known.setdefault(id(ref.image), ref) if isinstance(ref, MemoryImage) else ref

    return [replace(item, images=tuple(map(same, item.images))) for item in items]
