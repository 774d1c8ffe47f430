"""The rows of a batch that are still decoded: what the model is told of them, and the token that each gets.

Shape suffixes: R rows that are still decoded, T tokens, V vocabulary.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers import LogitsProcessor, RepetitionPenaltyLogitsProcessor

from mllm.compat.transformers_generation import CACHE, arguments_after
from mllm.errors import ModelError
from mllm.models.runtime.position_table import TableEnd

BY_ROW = ("input_ids", "attention_mask", "position_ids", "token_type_ids", "mm_token_type_ids")
"""Arguments of a step that hold a row of the batch in their last dimension but one."""


class FiniteScores(LogitsProcessor):
    """Refuse scores that are not finite, whose first token would be taken as the answer."""

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """
        Raises:
            ModelError: of a row, the largest is nan or infinite.
        """
        if not scores.max(-1).values.isfinite().all():
            raise ModelError("the scores of the next token are nan or infinite: the model diverged in training")
        return scores


class DecodedRows:
    """The rows of one call of `generate` that are still decoded."""

    def __init__(
        self,
        *,
        items: Sequence[int],
        ids_RT: Tensor,
        arguments: dict[str, Any],
        logits_processor: Any,
        stopping_criteria: Any,
        padding: int,
        sources: Sequence[random.Random] | None,
        evicts: bool,
    ) -> None:
        self.items = list(items)
        self.ids_RT = ids_RT
        self.prompt = ids_RT.shape[1]
        self.arguments = arguments
        self.logits_processor = logits_processor
        self.stopping_criteria = stopping_criteria
        self.padding = padding
        self.sources = None if sources is None else list(sources)
        self.evicts = evicts
        self.running = [True] * len(self.items)
        self.places: list[int] = []
        """Rows of the cache, in order."""
        self.columns = 0
        """Of the cache that are its own, those of the next token included; padding among them."""

    def prepare(self, model: Any, outputs: Any) -> Any:
        """Prepare the arguments of the next step; return the cache."""
        self.arguments = arguments_after(model, outputs, self.arguments)
        cache = self.arguments.pop(CACHE, None)
        self.columns = self.columns + 1 if self.columns or cache is None else cache.get_seq_length() + 1
        return cache

    def inputs(self, model: Any, cache: Any) -> dict[str, Any]:
        steps = 1 if self.arguments["use_cache"] else None
        return model.prepare_inputs_for_generation(
            self.ids_RT, next_sequence_length=steps, **{CACHE: cache}, **self.arguments
        )

    def add(self, logits_RV: Tensor) -> dict[int, list[int]]:
        """A token for each row; answers that end with it."""
        logits_RV = logits_RV.to(copy=True, dtype=torch.float32, device=self.ids_RT.device)
        scores_RV = self.logits_processor(self.ids_RT, FiniteScores()(self.ids_RT, logits_RV))
        tokens_R = scores_RV.argmax(-1) if self.sources is None else draw_tokens(scores_RV, self.sources)
        running_R = torch.tensor(self.running, device=tokens_R.device)
        self.ids_RT = torch.cat([self.ids_RT, tokens_R.where(running_R, self.padding)[:, None]], 1)
        before = self.running
        self.running = (running_R & ~self.stopping_criteria(self.ids_RT, None)).tolist()
        return {
            item: ids_T[self.prompt :].tolist()
            for item, ids_T, ran, runs in zip(self.items, self.ids_RT, before, self.running, strict=True)
            if ran and not runs
        }

    def repeat(self, items: Sequence[int]) -> None:
        """Rows for these in place of the prompts', as many for each, before any token was added; `sources` are theirs
        already."""
        prompts, sources = len(self.items), self.sources
        self.places, self.sources = list(range(prompts)), None
        self.keep([row for row in range(prompts) for _ in range(len(items) // prompts)])
        self.items, self.sources = list(items), sources

    def close_up(self, new_places: Mapping[int, int]) -> None:
        """Only rows that run stay, in new places, by which they are ordered."""
        order = sorted(
            (row for row, runs in enumerate(self.running) if runs), key=lambda row: new_places[self.places[row]]
        )
        self.places = [new_places.get(place, -1) for place in self.places]
        self.keep(order)

    def keep(self, order: Sequence[int]) -> None:
        """Only these rows stay, which run, in this order."""
        index_R = torch.tensor(order, dtype=torch.long, device=self.ids_RT.device)
        self.places = [self.places[row] for row in order]
        self.items = [self.items[row] for row in order]
        self.sources = None if self.sources is None else [self.sources[row] for row in order]
        self.running = [True] * len(order)
        self.ids_RT = self.ids_RT[index_R]
        for name in BY_ROW:
            if isinstance(self.arguments.get(name), Tensor):
                self.arguments[name] = self.arguments[name][..., index_R, :]
        for penalty in penalties(self.logits_processor):
            if isinstance(penalty.prompt_ignore_length, Tensor):
                penalty.prompt_ignore_length = penalty.prompt_ignore_length.to(index_R.device)[index_R]
        for end in self.stopping_criteria:
            if isinstance(end, TableEnd):
                end.keep(index_R)


def draw_tokens(scores_RV: Tensor, sources: Sequence[random.Random]) -> Tensor:
    """A token for each row: where the sum of probabilities first passes a number that its own source gives."""
    numbers = [source.random() for source in sources]
    sums_RV = scores_RV.double().softmax(-1).cumsum(-1)
    sums_RV = sums_RV / sums_RV[:, -1:]  # exactly 1 from the last possible token on, and a number is less
    numbers_R1 = torch.tensor(numbers, dtype=torch.float64, device=scores_RV.device)[:, None]
    return torch.searchsorted(sums_RV, numbers_R1, right=True)[:, 0]


def penalties(logits_processor: Any) -> list[RepetitionPenaltyLogitsProcessor]:
    return [each for each in logits_processor if isinstance(each, RepetitionPenaltyLogitsProcessor)]


Choose = Callable[[Sequence[int], Sequence[Tensor], Tensor, Tensor], tuple[Sequence[int], Sequence[bool]]]
"""(items, ids, logits, scores) -> a token for each row, and whether it ends there. `ids`: int64 [T] of each, padding
and new tokens included, those of prompts of embeddings not; `logits`: float32 [R, V], `scores`: the same behind the
processors of the generation config. Rows that have ended are among them where they stay in their batch."""


class ChosenRows(DecodedRows):
    """Rows whose tokens and ends one function chooses, for each by itself. So rows of several calls of `generate` can
    become one batch."""

    def __init__(
        self,
        *,
        items: Sequence[int],
        ids_RT: Tensor,
        arguments: dict[str, Any],
        logits_processor: Any,
        choose: Choose,
        padding: int,
        evicts: bool,
    ) -> None:
        super().__init__(
            items=items,
            ids_RT=ids_RT,
            arguments=arguments,
            logits_processor=(),
            stopping_criteria=(),
            padding=padding,
            sources=None,
            evicts=evicts,
        )
        self.choose = choose
        self.processors = [logits_processor] * len(self.items)
        self.widths = [ids_RT.shape[1]] * len(self.items)
        """Columns of `ids_RT` that are each row's own, from the right, padding of its prompt included."""

    def add(self, logits_RV: Tensor) -> dict[int, list[int]]:
        """A token for each row; answers are the chooser's matter."""
        logits_RV = logits_RV.to(dtype=torch.float32, device=self.ids_RT.device)
        total = self.ids_RT.shape[1]
        ids = [ids_T[total - width :] for ids_T, width in zip(self.ids_RT, self.widths, strict=True)]
        tokens, ended = self.choose(self.items, ids, logits_RV, self._scores(logits_RV))
        tokens_R = torch.tensor(tokens, dtype=torch.long, device=self.ids_RT.device)
        self.ids_RT = torch.cat([self.ids_RT, tokens_R[:, None]], 1)
        self.widths = [width + 1 for width in self.widths]
        self.running = [runs and not ends for runs, ends in zip(self.running, ended, strict=True)]
        return {}

    def _scores(self, logits_RV: Tensor) -> Tensor:
        """Behind the processors of each row, which take the rows that began together at once."""
        if not any(map(len, self.processors)):
            return logits_RV
        scores_RV = logits_RV.clone()
        total = self.ids_RT.shape[1]
        together: dict[tuple[int, int], list[int]] = {}
        for row, (processor, width) in enumerate(zip(self.processors, self.widths, strict=True)):
            together.setdefault((id(processor), width), []).append(row)
        for (_, width), rows in together.items():
            ids_RT = self.ids_RT[rows, total - width :]
            scores_RV[rows] = self.processors[rows[0]](ids_RT, scores_RV[rows])
        return scores_RV

    def keep(self, order: Sequence[int]) -> None:
        """As of all rows; columns that only other rows had are forgotten."""
        super().keep(order)
        self.processors = [self.processors[row] for row in order]
        self.widths = [self.widths[row] for row in order]
        mask = self.arguments.get("attention_mask")
        if mask is None:  # there is no padding
            return
        unseen = int(mask.any(0).int().argmax())
        self.columns -= unseen
        for name in BY_ROW[1:]:
            if isinstance(self.arguments.get(name), Tensor):
                self.arguments[name] = self.arguments[name][..., unseen:]
        own = max(self.widths)
        self.ids_RT = self.ids_RT[:, self.ids_RT.shape[1] - own :]

    def take_in(self, other: ChosenRows) -> None:
        """The rows of another, which were decoded as far, become rows of this one, in the order of their places."""
        columns = max(self.columns, other.columns)
        names = {name for rows in (self, other) for name in BY_ROW[1:] if isinstance(rows.arguments.get(name), Tensor)}
        for name in names | {"attention_mask"}:
            mine, its = (rows._values(name, columns) for rows in (self, other))
            if mine.dim() == 3:  # some models repeat positions only where an image is among the tokens to come
                depth = max(len(mine), len(its))
                mine, its = mine.expand(depth, -1, -1), its.expand(depth, -1, -1)
            self.arguments[name] = torch.cat([mine, its], -2)
        self.arguments.pop("inputs_embeds", None)  # of prompts, which were read
        width = max(self.ids_RT.shape[1], other.ids_RT.shape[1])
        ids = [pad(each, (width - each.shape[1], 0), value=self.padding) for each in (self.ids_RT, other.ids_RT)]
        self.ids_RT = torch.cat(ids)
        self.columns = columns
        self.items += other.items
        self.running += other.running
        self.places += other.places
        self.processors += other.processors
        self.widths += other.widths
        self.keep(sorted(range(len(self.places)), key=self.places.__getitem__))

    def _values(self, name: str, columns: int) -> Tensor:
        """An argument with a value for each token, zeros before them up to so many columns."""
        value = self.arguments.get(name)
        if value is None:  # a mask that is left out hides nothing; a text alone has tokens of kind 0
            shape = (len(self.items), self.columns)
            value = torch.full(shape, int(name == "attention_mask"), dtype=torch.long, device=self.ids_RT.device)
        return pad(value, (columns - value.shape[-1], 0))
