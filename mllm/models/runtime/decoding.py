"""Decoding of batches whose rows do not depend on each other: each row samples for itself and leaves when it has
finished, so that a row of the next batch can take its place.

Shape suffixes: B rows of a batch, R of them that are still decoded, T tokens.
"""

from __future__ import annotations

import copy
import functools
import logging
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
import transformers
from torch import Tensor, distributed
from torch.nn.functional import pad
from transformers import (
    DynamicCache,
    GenerationConfig,
    LogitsProcessorList,
    PreTrainedModel,
    SynthIDTextWatermarkLogitsProcessor,
    UnbatchedClassifierFreeGuidanceLogitsProcessor,
)
from transformers.generation.configuration_utils import GenerationMode

from mllm.compat.names import ADVICE
from mllm.compat.transformers_generation import beam_search, faster_steps, missing_steps, prefill
from mllm.errors import ConfigError, ModelError
from mllm.models.language_models import beams_obstacle
from mllm.models.runtime.decoded_rows import (
    BY_ROW,
    Choose,
    ChosenRows,
    DecodedRows,
    FiniteScores,
    penalties,
)
from mllm.models.runtime.kv_cache import ROOM, PreallocatedCacheLayer

logger = logging.getLogger(__name__)

REMEMBERING = (SynthIDTextWatermarkLogitsProcessor, UnbatchedClassifierFreeGuidanceLogitsProcessor)
"""What keeps a state of its own for each row."""


class ContinuousBatcher:
    """Decodes in place of the loop in transformers' `generate`; `pop_finished` returns the answers.

    The loop stands on private names of transformers. Where one is missing, `generate` decodes each batch by itself:
    slower, and a sampled answer then follows from `seed` and the whole batch.

    Args:
        seed: seed of sampled answers; what a row samples follows from it and from the row's item alone.
        evict_finished: finished rows leave the batch and the cache. The model must keep no state of a row elsewhere.
        max_rows: maximum rows decoded at once; new prompts take the places of finished rows. None: each batch is
            decoded by itself, to its end. Needs `evict_finished`.
        synced: go on until all processes have finished, as sharded models need; without `max_rows`.
    """

    def __init__(
        self, *, seed: int, evict_finished: bool = False, max_rows: int | None = None, synced: bool = False
    ) -> None:
        self.seed = seed
        self.evict_finished = evict_finished
        self.max_rows = max_rows
        self.synced = synced
        self.model: Any = None
        self.cache: Any = None
        self._batches: list[DecodedRows] = []
        self._answers: dict[int, list[int]] = {}

    def generate(
        self,
        model: Any,
        items: Sequence[int],
        arguments: Mapping[str, Any],
        *,
        shared: bool = False,
        choose: Choose | None = None,
        seeds: Sequence[str] | None = None,
    ) -> None:
        """Begin a batch with a row for each item.

        Args:
            items: one for each prompt of the `arguments`, or as many for each, those of the first prompt first: then
                each prompt is read once, and its rows part behind it. That needs `evict_finished`.
            model: whose `generate` takes the `arguments`; if `shared`, its
                `generate_with_shared_prefix`.
            choose: gives each row its tokens and its end, in place of the settings among the `arguments`; it keeps the
                answers, too.
            seeds: what each row's samples follow from, in place of `seed` and the item.

        Raises:
            ConfigError: another way to decode is asked for than greedy search, sampling and beam search.
            ModelError: `choose` or `seeds` are given, and transformers lacks what a loop of our own needs.
        """
        generate = model.generate_with_shared_prefix if shared else model.generate
        if missing := missing_steps():
            if choose is not None or seeds is not None:
                raise without_steps(missing)
            _warn_of_missing(tuple(missing))
            self._generate_alone(generate, model, items, arguments)
        else:
            generate(**arguments, custom_generate=partial(self._start, items, choose, seeds))

    def step_until_free(self, rows: int) -> None:
        """Decode until there is room for so many rows, or none is left."""
        while self.max_rows is not None and self._batches and self._rows + rows > self.max_rows:
            self.step()

    def finish(self) -> None:
        """Decode to the end."""
        while self._batches:
            self.step()

    @property
    def items(self) -> set[int]:
        """Those whose rows are decoded."""
        return {item for batch in self._batches for item in batch.items}

    def clear(self) -> None:
        """Drop all rows, and the memory of the cache."""
        self._batches = []
        self.cache = None

    def pop_finished(self) -> dict[int, list[int]]:
        """The answers found since the last call: the new tokens of each item."""
        finished, self._answers = self._answers, {}
        return finished

    def _generate_alone(
        self, generate: Callable[..., Tensor], model: Any, items: Sequence[int], arguments: Mapping[str, Any]
    ) -> None:
        """Decode a batch by transformers' own loop."""
        config = copy.deepcopy(model.generation_config)
        config.update(**{name: value for name, value in arguments.items() if hasattr(config, name)})
        _check_mode(config.get_generation_mode())
        processors = LogitsProcessorList([*arguments.get("logits_processor", ()), FiniteScores()])
        synced = {"synced_gpus": True} if self.synced else {}
        with torch.random.fork_rng():
            torch.manual_seed(random.Random(f"answer {self.seed} {list(items)}").getrandbits(63))
            ids_BT = generate(**{**arguments, **synced, "logits_processor": processors})
        ends = config.eos_token_id if isinstance(config.eos_token_id, list) else [config.eos_token_id]
        self._answers |= {
            item: _until_the_end(row, ends, config.pad_token_id)
            for item, row in zip(items, ids_BT.tolist(), strict=True)
        }

    def _start(
        self,
        items: Sequence[int],
        choose: Choose | None,
        seeds: Sequence[str] | None,
        model: PreTrainedModel,
        input_ids: Tensor,
        *,
        logits_processor: Any,
        stopping_criteria: object,
        generation_config: GenerationConfig,
        **arguments: Any,
    ) -> Tensor:
        if input_ids.shape[1] == 0:
            # transformers would spare as many new tokens as a prompt of embeddings has padding
            for penalty in penalties(logits_processor):
                penalty.prompt_ignore_length = None
        mode = _check_mode(generation_config.get_generation_mode())
        if mode == GenerationMode.BEAM_SEARCH:
            check_beams(model, generation_config.num_beams)
            ids_BT = beam_search(
                model,
                input_ids,
                logits_processor=LogitsProcessorList([FiniteScores(), *logits_processor]),
                stopping_criteria=stopping_criteria,
                generation_config=generation_config,
                synced_gpus=self.synced,
                **arguments,
            )
            prompt = input_ids.shape[1]
            self._answers |= {item: row[prompt:].tolist() for item, row in zip(items, ids_BT, strict=True)}
            return ids_BT
        outputs = prefill(model, input_ids, generation_config, arguments)
        sampled = mode == GenerationMode.SAMPLE
        evicts = self.evict_finished and not any(isinstance(each, REMEMBERING) for each in logits_processor)
        repeats = len(items) // len(input_ids)
        common: dict[str, Any] = {
            "items": items[::repeats],
            "ids_RT": input_ids,
            "arguments": arguments,
            "logits_processor": logits_processor,
            "padding": generation_config.pad_token_id or 0,
            "evicts": evicts,
        }
        if choose is not None:
            batch: DecodedRows = ChosenRows(choose=choose, **common)
        else:
            seeds = seeds or [f"{self.seed} {item}" for item in items]
            sources = [random.Random(f"answer {seed}") for seed in seeds] if sampled else None
            batch = DecodedRows(stopping_criteria=stopping_criteria, sources=sources, **common)
        self.model = model
        with self._cleared_on_error():
            cache, logits = batch.prepare(model, outputs), outputs.logits[:, -1:]
            if repeats > 1:
                assert batch.evicts, "what the model or a processor remembers of a row is not repeated"
                rows = torch.arange(len(input_ids), device=logits.device).repeat_interleave(repeats)
                cache.batch_select_indices(rows)
                logits = logits[rows]
                batch.repeat(items)
            self._join(batch, cache)
            self._advance([batch], logits, first=batch.places[0])
            self._merge()
            if self.max_rows is None or not batch.evicts:
                self.finish()
        return input_ids

    @property
    def _rows(self) -> int:
        return sum(len(batch.items) for batch in self._batches)

    def _join(self, batch: DecodedRows, cache: Any) -> None:
        usual = type(cache) is DynamicCache and all(type(layer) is PreallocatedCacheLayer for layer in cache.layers)
        batch.evicts = batch.evicts and usual
        if self._batches and not (batch.evicts and self._batches[0].evicts):
            self.finish()
        if self.cache is None or not batch.evicts:
            self.cache = cache
        else:
            assert self.max_rows is not None
            for mine, its in zip(self.cache.layers, cache.layers, strict=True):
                mine.add_rows(its, self.max_rows)
        rows = self._rows
        batch.places = list(range(rows, rows + len(batch.items)))
        self._batches.append(batch)

    def step(self) -> None:
        """One more token for all rows. What an error interrupts is dropped, as by `clear`."""
        with self._cleared_on_error():
            with faster_steps(self.model):
                outputs = self.model(**self._inputs(), return_dict=True)
            for batch in self._batches:
                self.cache = batch.prepare(self.model, outputs)
            self._advance(self._batches, outputs.logits)

    @contextmanager
    def _cleared_on_error(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            self.clear()  # some layers may hold a token, or rows, that others do not
            raise

    def _merge(self) -> None:
        """All rows whose tokens are chosen by themselves make one batch: one call prepares a step of all."""
        first, *others = self._batches or [None]
        for batch in others:
            if isinstance(first, ChosenRows) and isinstance(batch, ChosenRows) and first.evicts and batch.evicts:
                first.take_in(batch)
                self._batches.remove(batch)

    def _inputs(self) -> dict[str, Any]:
        """The model's arguments for all batches at once, rows in the order of the cache."""
        inputs = [batch.inputs(self.model, self.cache) for batch in self._batches]
        columns = 0 if self.cache is None else self.cache.get_seq_length() + 1
        if len(inputs) == 1 and (not self._batches[0].evicts or self._batches[0].columns == columns):
            return inputs[0]
        for batch, given in zip(self._batches, inputs, strict=True):
            mask = given.get("attention_mask")
            if mask is None:
                mask = torch.ones(len(batch.items), batch.columns, dtype=torch.long, device=given["input_ids"].device)
            given["attention_mask"] = pad(mask, (columns - batch.columns, 0))
        places = torch.tensor([place for batch in self._batches for place in batch.places])
        order = places.argsort().to(self.model.device)
        joined = {
            name: torch.cat([given[name] for given in inputs], dim=-2)[..., order, :]
            for name in BY_ROW
            if isinstance(inputs[0].get(name), Tensor)
        }
        return {**inputs[0], **joined}

    def _advance(self, batches: Sequence[DecodedRows], logits: Tensor, *, first: int = 0) -> None:
        """Give each row of these batches its token, by the logits of the rows from `first` on; finished ones leave."""
        for batch in batches:
            if any(batch.running):  # else other processes are at work
                rows = torch.tensor(batch.places, device=logits.device) - first
                self._answers |= batch.add(logits[rows, -1])
        self._evict_finished()

    def _evict_finished(self) -> None:
        running = dict(pair for batch in self._batches for pair in zip(batch.places, batch.running, strict=True))
        if not self._anyone_runs(any(running.values())):
            if self.max_rows is not None and all(batch.evicts for batch in self._batches):
                self.cache.batch_select_indices(torch.tensor([], dtype=torch.long))  # its memory serves again
            else:
                self.cache = None
            self._batches = []
            return
        if all(running.values()) or not any(running.values()) or not all(batch.evicts for batch in self._batches):
            return
        kept = closed_up([running[place] for place in sorted(running)])
        index = torch.tensor(kept, device=self.model.device)
        self.cache.batch_select_indices(index)
        new_places = {place: new for new, place in enumerate(kept)}
        for batch in self._batches:
            batch.close_up(new_places)
        self._batches = [batch for batch in self._batches if batch.items]
        unseen = self.cache.get_seq_length() + 1 - max(batch.columns for batch in self._batches)
        if unseen >= ROOM:
            for layer in self.cache.layers:
                layer.crop_left(unseen)

    def _anyone_runs(self, here: bool) -> bool:
        """Whether a row is unfinished, on any process if they go in step."""
        if not self.synced:
            return here
        running = torch.tensor(float(here), device=self.model.device)
        distributed.all_reduce(running)
        return bool(running)


@functools.cache
def _warn_of_missing(names: tuple[str, ...]) -> None:
    logger.warning(
        "transformers %s has no %s: decoding falls back to its generate, one batch at a time, which is slower; %s",
        transformers.__version__,
        ", ".join(names),
        ADVICE,
    )


def without_steps(missing: Sequence[str]) -> ModelError:
    """What there is to say where tokens cannot be chosen by a function."""
    return ModelError(f"transformers {transformers.__version__} has no {', '.join(missing)}; {ADVICE}")


def _check_mode(mode: GenerationMode) -> GenerationMode:
    if mode not in (GenerationMode.GREEDY_SEARCH, GenerationMode.SAMPLE, GenerationMode.BEAM_SEARCH):
        raise ConfigError(
            field="gen_kwargs",
            expected="greedy search, sampling (do_sample=True) or beam search (num_beams=2 or more, do_sample=False)",
            found=f"{mode.value}, with the model's generation_config.json",
        )
    return mode


def check_beams(model: PreTrainedModel, count: int) -> None:
    """
    Raises:
        ConfigError: the model cannot search with several beams.
    """
    if count > 1 and (obstacle := beams_obstacle(model)):
        raise ConfigError(field="gen_kwargs.num_beams", expected=f"1, since {obstacle}", found=str(count))


def _until_the_end(ids: Sequence[int], ends: Sequence[int | None], padding: int | None) -> list[int]:
    """The new tokens of a row up to its first end token, without the padding after an answer that words ended."""
    length = next((place + 1 for place, token in enumerate(ids) if token in ends), len(ids))
    while length and ids[length - 1] == padding and padding not in ends:
        length -= 1
    return list(ids[:length])


def beams(model: Any, generation_args: Mapping[str, Any]) -> int:
    """Rows that `generate` makes of each prompt."""
    return generation_args.get("num_beams") or model.generation_config.num_beams or 1


def closed_up(running: Sequence[bool]) -> list[int]:
    """The places of the rows that go on; the last fill the gaps, so that few of them change theirs."""
    kept = [place for place, runs in enumerate(running) if runs]
    from_behind = reversed(kept)
    return [place if running[place] else next(from_behind) for place in range(len(kept))]
