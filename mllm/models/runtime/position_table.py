"""The end of an answer where the language model's table of positions ends.

Shape suffixes: B rows of a batch, R of them that are still decoded, T tokens.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

from torch import Tensor
from transformers import PreTrainedModel, StoppingCriteria, StoppingCriteriaList

from mllm.errors import ModelError
from mllm.models.language_models import position_limit


class TableEnd(StoppingCriteria):
    """Ends each row with the last token that can still be predicted, as one that `max_new_tokens` cuts.

    Args:
        room_R: int64 [R], how many new tokens each row has room for.
        prompt: columns of the ids before the first new token.
    """

    def __init__(self, room_R: Tensor, prompt: int) -> None:
        self.room_R = room_R
        self.prompt = prompt

    def __call__(self, input_ids: Tensor, scores: Any, **_: Any) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        """bool [rows], or of beams, those of one row together: which end here."""
        room = self.room_R.to(input_ids.device).repeat_interleave(len(input_ids) // max(1, len(self.room_R)))
        return room <= input_ids.shape[1] - self.prompt

    def keep(self, index_R: Tensor) -> None:
        """Only these rows go on, in this order."""
        self.room_R = self.room_R[index_R.to(self.room_R.device)]


@contextmanager
def within_positions(
    language_model: PreTrainedModel, mask_BT: Tensor, generation_args: Mapping[str, object], *, prompt: int = 0
) -> Iterator[dict[str, object]]:
    """While `generate` runs with the arguments that this gives, no answer goes on where there is no position left.

    Args:
        mask_BT: which tokens of the prompts are read, padding on the left.
        prompt: as of `TableEnd`; 0 where prompts are embeddings.

    Raises:
        ModelError: a prompt is longer than the table.
    """
    limit = position_limit(language_model)
    if limit is None:
        yield dict(generation_args)
        return
    read_B = mask_BT.long().sum(1)
    check_fits(limit, int(read_B.max()), "prompts", "the language model")
    hook = language_model.register_forward_pre_hook(partial(_clamped, limit - 1), with_kwargs=True)
    try:
        yield ending(generation_args, TableEnd(limit + 1 - read_B, prompt))
    finally:
        hook.remove()


def check_fits(limit: int | None, longest: int, what: str, reader: str) -> None:
    """
    Raises:
        ModelError: there are more tokens than positions.
    """
    if limit is not None and longest > limit:
        expected = f"{what} of at most {limit:,} tokens, the most that {reader} reads"
        raise ModelError(expected=expected, found=f"{longest:,}")


def ending(generation_args: Mapping[str, Any], end: TableEnd) -> dict[str, Any]:
    """The arguments of `generate`, with one end more."""
    given: Iterable[StoppingCriteria] = generation_args.get("stopping_criteria") or ()
    return {**generation_args, "stopping_criteria": StoppingCriteriaList([*given, end])}


def _clamped(last: int, module: Any, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """A row that has ended stays in a batch that goes on, and is given padding at ever later positions."""
    positions = kwargs.get("position_ids")
    return args, kwargs if positions is None else {**kwargs, "position_ids": positions.clamp(max=last)}
