"""Prompts with answers that are to be learned from, and how a checkpoint keeps those that are to be used again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch

from mllm.errors import ConfigError
from mllm.models.runtime.policy_loss import AnswerBatch
from mllm.pipeline.prompts import Prompt
from mllm.pipeline.rollouts import SampledCompletion
from mllm.pipeline.train_data import to_device

Entries = list[list[Prompt]]
"""The prompts of a batch, by item."""
KEPT_ANSWERS_FILE = "rollouts-{rank}.pt"
"""In a checkpoint: answers that are to be used again, of each rank."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Experience:
    """A batch of prompts with answers that are to be learned from.

    Attributes:
        completions: of each prompt, those of an item's prompts one after the other.
        answers: what the loss must know of them, all prompts' one after the other.
        tokens: that all ranks learn from in this sampling, for each batch of a rank.
        count: answers of all ranks in this sampling, for each batch of a rank.
    """

    entries: Entries
    completions: list[list[SampledCompletion]]
    answers: AnswerBatch
    tokens: float
    count: float


def keep(experiences: Iterable[Experience], checkpoint: Path, rank: int) -> None:
    """Write the answers into a checkpoint, whose folder is made."""
    checkpoint.mkdir(parents=True, exist_ok=True)
    torch.save([_plain(one) for one in experiences], checkpoint / KEPT_ANSWERS_FILE.format(rank=rank))


def kept_answers(
    checkpoint: Path, prompts: Callable[[Sequence[int]], Entries], *, rank: int, ranks: int, group: int
) -> Iterator[Experience]:
    """The answers that a checkpoint kept for a rank; none where all had been used.

    Args:
        prompts: gives those of items by their indices.
        group: answers of a prompt.

    Raises:
        ConfigError: they were sampled for another number of ranks, or others of each prompt.
    """
    files = list(checkpoint.glob(KEPT_ANSWERS_FILE.format(rank="*")))
    if files and len(files) != ranks:
        raise _changed(checkpoint, "processes", len(files), ranks)
    for record in torch.load(checkpoint / KEPT_ANSWERS_FILE.format(rank=rank), weights_only=True) if files else ():
        completions = [
            [SampledCompletion(ids=tuple(ids), ended=ended) for ids, ended in some] for some in record["texts"]
        ]
        if len(completions[0]) != group:
            raise _changed(checkpoint, "reward_args.num_generations", len(completions[0]), group)
        yield Experience(
            entries=prompts(record["indices"]),
            completions=completions,
            answers=AnswerBatch(**record["answers"]),
            tokens=record["tokens"],
            count=record["count"],
        )


def answers_on(answers: AnswerBatch, device: torch.device) -> AnswerBatch:
    return AnswerBatch(**to_device(_tensors(answers), device))


def _plain(experience: Experience) -> dict[str, object]:
    return {
        "indices": [entry[0].sample.index for entry in experience.entries],
        "texts": [[(list(one.ids), one.ended) for one in some] for some in experience.completions],
        "answers": _tensors(experience.answers),
        "tokens": experience.tokens,
        "count": experience.count,
    }


def _tensors(answers: AnswerBatch) -> dict[str, Any]:
    """What is known of the answers, by name."""
    known = {each.name: getattr(answers, each.name) for each in fields(answers)}
    return {name: tensor for name, tensor in known.items() if tensor is not None}


def _changed(checkpoint: Path, field: str, before: int, now: int) -> ConfigError:
    return ConfigError(
        "the checkpoint holds sampled answers for this setting: use the earlier one, or set ignore_data_skip=True",
        where=f"resume_from_checkpoint {checkpoint}",
        field=field,
        expected=str(before),
        found=str(now),
    )
