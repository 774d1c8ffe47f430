from __future__ import annotations

from typing import Any

import pytest
import torch

from mllm.pipeline.prompts import RepeatedBlocks, firsts, next_block, order_of
from mllm.pipeline.rollouts import SampledCompletion


class Plan:
    """Batches of two ranks."""

    ranks, done = 2, 0

    def __init__(self, batches: int) -> None:
        self.batches = [[number] for number in range(batches)]

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Any:
        return iter(self.batches)


def test_a_block_is_followed_by_as_many_empty_batches_as_its_answers_are_used_again() -> None:
    blocks = RepeatedBlocks(Plan(6), steps=2, times=2)  # type: ignore[arg-type]
    assert list(blocks) == [[0], [1], [2], [3], [], [], [], [], [4], [5], [], []]
    assert len(blocks) == 12
    assert list(RepeatedBlocks(Plan(6), steps=2, times=1)) == [[number] for number in range(6)]  # type: ignore[arg-type]


@pytest.mark.parametrize(("done", "planned"), [(0, 0), (3, 0), (4, 2), (9, 4)])
def test_whole_blocks_that_a_run_has_behind_it_are_passed_over(done: int, planned: int) -> None:
    blocks = RepeatedBlocks(Plan(12), steps=2, times=2)  # type: ignore[arg-type]
    blocks.done = done
    assert blocks.plan.done == planned


def test_next_block_gives_what_is_there_and_passes_over_what_is_empty() -> None:
    batches: Any = iter([["a"], ["b"], [], [], ["c"], [], ["d"]])
    assert next_block(batches, 2) == [["a"], ["b"]]
    assert next_block(batches, 2) == [["c"]]
    assert next_block(batches, 2) == [["d"]]
    assert next_block(batches, 2) == []


def test_firsts_are_of_the_same_prompt() -> None:
    one, two, cut = (
        SampledCompletion(ids=ids, ended=ended) for ids, ended in (((5, 1), True), ((6, 1), True), ((5,), False))
    )
    assert firsts([[one, two, one, one], [two, cut, one, two]]).tolist() == [0, 1, 0, 0, 4, 5, 6, 4]


def test_order_of_finds_the_tokens_of_each_answer_where_an_equal_one_has_them() -> None:
    """Labels of the answers 3, 0, 0, 3, 4: the answers 0, 1 = 0, 3 and 5 = 3 are learned from, and so is 4."""
    order = order_of(torch.tensor([3, 0, 0, 3, 4]), torch.tensor([0, 0, 3, 4, 3]))
    assert order.tolist() == [1, 2, 1, 2, 0, 3, 4, 0, 3]
    nothing = torch.tensor([], dtype=torch.int64)
    assert order_of(nothing, nothing).tolist() == []
