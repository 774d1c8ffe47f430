from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from mllm.errors import ConfigError
from mllm.models.runtime.policy_loss import AnswerBatch
from mllm.pipeline.experience import Experience, keep, kept_answers
from mllm.pipeline.rollouts import SampledCompletion

ENTRIES: Any = [[SimpleNamespace(sample=SimpleNamespace(index=7))]]
ONE = Experience(
    entries=ENTRIES,
    completions=[[SampledCompletion(ids=(4, 5), ended=True), SampledCompletion(ids=(6,), ended=False)]],
    answers=AnswerBatch(lengths=torch.tensor([2, 1]), advantages=torch.tensor([1.0, -1.0]), old=torch.ones(3)),
    tokens=3.0,
    count=2.0,
)


def prompts(indices: Sequence[int]) -> Any:
    assert list(indices) == [7]
    return ENTRIES


def test_kept_answers_come_back_as_they_were(tmp_path: Path) -> None:
    keep([ONE, ONE], tmp_path / "checkpoint", 0)
    found = list(kept_answers(tmp_path / "checkpoint", prompts, rank=0, ranks=1, group=2))
    assert len(found) == 2
    for one in found:
        assert (one.entries, one.completions, one.tokens, one.count) == (ENTRIES, ONE.completions, 3.0, 2.0)
        assert one.answers.old is not None
        assert one.answers.reference is None
        assert one.answers.advantages.tolist() == [1.0, -1.0]


def test_nothing_is_kept_where_all_answers_were_used(tmp_path: Path) -> None:
    assert list(kept_answers(tmp_path, prompts, rank=1, ranks=2, group=2)) == []


@pytest.mark.parametrize(
    ("now", "message"),
    [
        (dict(ranks=2, group=2), "processes: expected 1, found 2"),
        (dict(ranks=1, group=4), "reward_args.num_generations: expected 2, found 4"),
    ],
)
def test_answers_of_other_groups_or_ranks_are_refused(now: dict[str, int], message: str, tmp_path: Path) -> None:
    """They would be compared with the wrong ones, or those of a rank lost."""
    keep([ONE], tmp_path, 0)
    with pytest.raises(ConfigError, match=message):
        list(kept_answers(tmp_path, prompts, rank=0, **now))
