"""Items as prompts to be answered, in the order in which answers are sampled and learned from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Sampler

from mllm.conversation.packing import Length, split_rounds
from mllm.conversation.processor import Processor
from mllm.conversation.rendering import IGNORE
from mllm.images import ImageRef
from mllm.pipeline.planning import PlannedBatches
from mllm.pipeline.rollouts import SampledCompletion
from mllm.pipeline.train_data import ItemDataset, TrainDataset
from mllm.records import answer_truth
from mllm.types import EncodedSample, Item


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """A question to be answered."""

    item: Item
    """What its answers are compared with."""
    sample: EncodedSample


class PromptDataset(TrainDataset):
    """Gives the prompts of an item, as training data otherwise: same order, same images, same replacements.

    `split=True` takes the rounds of a conversation as questions of their own, each with the truth of its own answer;
    else its last question is asked, behind the rounds before. Rounds that only fill a row are left out.
    `answers`: of each prompt, for plans.
    """

    def __init__(
        self, items: ItemDataset, processor: Processor, *, split: bool = False, seed: int = 0, answers: int
    ) -> None:
        super().__init__(items, processor, split=split, seed=seed)
        self.answers = answers
        self._asked: dict[tuple[int, int], Item] = {}

    def prompts(self, indices: Sequence[int]) -> list[list[Prompt]]:
        """Those of each item. Errors are those of `TrainDataset`."""
        self._asked = {}
        return [
            [Prompt(item=self._asked[sample.index, number], sample=sample) for number, sample in enumerate(entry)]
            for entry in super().__getitems__(indices)
        ]

    def __getitems__(self, indices: Sequence[int]) -> Any:
        return self.prompts(indices)

    def questions(self, index: int) -> list[Item]:
        """The questions of an item, images unopened."""
        item = self.items[index]
        if item.extra_rounds:
            item = item.with_extra_rounds(0)
        if not self.split:
            return [item]
        *earlier, last = split_rounds(item)
        return [*(replace(each, truth=answer_truth(each)) for each in earlier), replace(last, truth=item.truth)]

    def _encoded(self, index: int, opened: dict[ImageRef, Mapping[str, Tensor]]) -> list[EncodedSample]:
        questions = self.questions(index)
        images = self.open(self.items[index], training=True, opened=opened)
        opened |= images
        self._asked |= {(index, number): each for number, each in enumerate(questions)}
        return [self.processor.encode(each, index, answer=False, images=images) for each in questions]

    def lengths(self, index: int) -> tuple[tuple[ImageRef, ...], tuple[Length, ...]]:
        """As of `TrainDataset`, each question with as many answers as it gets, all as long as the true one."""
        images, lengths = super().lengths(index)
        return images, tuple(each for each in lengths for _ in range(self.answers))


def completed(prompt: Prompt, completion: SampledCompletion, number: int, *, learned: bool) -> EncodedSample:
    """A prompt with an answer, the `number`-th of its batch, as training takes it."""
    ids = torch.tensor(completion.ids, dtype=torch.int64)
    before = torch.full_like(prompt.sample.input_ids, IGNORE)
    return replace(
        prompt.sample,
        input_ids=torch.cat([prompt.sample.input_ids, ids]),
        labels=torch.cat([before, ids if learned else torch.full_like(ids, IGNORE)]),
        source=number,
        skipped=(),
    )


def firsts(completions: Sequence[Sequence[SampledCompletion]]) -> Tensor:
    """int64 [R]: for each answer of all prompts the number of the first to its prompt that is the same."""
    found: list[int] = []
    for some in completions:
        start = len(found)
        found += [start + some.index(each) for each in some]
    return torch.tensor(found, dtype=torch.int64)


def order_of(sources_N: Tensor, answers_R: Tensor) -> Tensor:
    """Where among the labels of a batch the tokens of each answer are, one answer after the other: int64.

    Args:
        sources_N: the answer that each label is of.
        answers_R: of each answer that is learned from, the one that is in the batch in its place.
    """
    sorted_N = sources_N.argsort(stable=True)
    lengths = torch.bincount(sources_N)
    starts = lengths.cumsum(0) - lengths
    lengths_R = lengths[answers_R]
    before_R = starts[answers_R] - (lengths_R.cumsum(0) - lengths_R)
    return sorted_N[torch.repeat_interleave(before_R, lengths_R) + torch.arange(int(lengths_R.sum()))]


def as_they_are(entries: Sequence[Sequence[Prompt]]) -> list[list[Prompt]]:
    """Collates prompts, whose rows are made once they have answers; a batch that is passed over is empty."""
    return [list(entry) for entry in entries]


class RepeatedBlocks(Sampler[list[int]]):
    """Planned batches, in blocks of so many steps for each rank; behind each block so many empty batches that its
    answers can be used `times` times.
    """

    def __init__(self, plan: PlannedBatches, *, steps: int, times: int) -> None:
        self.plan = plan
        self.steps = steps
        self.times = times

    @property
    def ranks(self) -> int:
        return self.plan.ranks

    @property
    def done(self) -> int:
        return self.plan.done * self.times

    @done.setter
    def done(self, batches: int) -> None:
        """Batches of a rank that nobody will look at: whole blocks of the plan need not be read."""
        self.plan.done = batches // (self.steps * self.times) * self.steps

    def __len__(self) -> int:
        return len(self.plan) * self.times

    def __iter__(self) -> Iterator[list[int]]:
        block: list[list[int]] = []
        for batch in self.plan:
            block.append(batch)
            if len(block) == self.steps * self.ranks:
                yield from self._repeated(block)
                block = []
        yield from self._repeated(block)

    def _repeated(self, block: list[list[int]]) -> Iterator[list[int]]:
        yield from block
        for _ in range(len(block) * (self.times - 1)):
            yield []


def next_block(batches: Iterator[list[list[Prompt]]], steps: int) -> list[list[list[Prompt]]]:
    """The next batches of a block, up to so many; those that a block before left empty are passed over."""
    block: list[list[list[Prompt]]] = []
    for batch in batches:
        if batch:
            block.append(batch)
        if len(block) == steps or (block and not batch):
            break
    return block
