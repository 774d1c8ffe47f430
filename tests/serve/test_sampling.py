"""Settings are checked, and each row of a step is chosen for by its own."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import (
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from mllm.errors import ConfigError, ModelError
from mllm.serve.sampling import NewToken, SampledRow, Sampling, choose


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("max_new_tokens", 0, "expected a whole number from 1 on, found int '0'"),
        ("max_new_tokens", 2.5, "expected a whole number"),
        ("max_new_tokens", True, "expected a whole number"),
        ("temperature", -1, "expected 0, or a number from 0.001 to 100, found int '-1'"),
        ("temperature", 1e-6, "expected 0, or a number from 0.001"),
        ("temperature", float("nan"), "expected 0, or a number"),
        ("temperature", "hot", "expected 0, or a number"),
        ("top_p", 0, "expected a number above 0, at most 1, found int '0'"),
        ("top_p", 1.1, "expected a number above 0"),
        ("top_k", -1, "expected a whole number from 0 on"),
        ("min_p", 2, "expected a number from 0 to 1"),
        ("repetition_penalty", 0, "expected a number from 0.01 to 100"),
        ("seed", 0.5, "expected a whole number"),
        ("stop", "text", "expected texts that are not empty"),
        ("stop", ("a", ""), "expected texts that are not empty"),
        ("logprobs", 21, "expected a whole number from 0 to 20, found int '21'"),
    ],
)
def test_sampling_names_the_field_that_is_wrong(field: str, value: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{field}: {message}"):
        Sampling(**{field: value})


def row(new: tuple[int, ...] = (), prompt: int = 0, **settings: Any) -> SampledRow:
    return SampledRow(sampling=Sampling(**settings), prompt=prompt, new=new)


def chosen(rows: dict[int, SampledRow], logits: torch.Tensor, ids: list[list[int]] | None = None) -> dict[int, Any]:
    held = [torch.tensor(each, dtype=torch.long) for each in ids or [[]] * len(logits)]
    picked, found = choose(rows, held, logits, logits)
    assert len(picked) == len(logits)
    return found


def test_choose_gives_the_likeliest_or_draws_by_the_settings_of_the_row() -> None:
    logits = torch.randn(6, 50, generator=torch.Generator().manual_seed(0)) * 2
    drawn = dict(temperature=1.5, top_k=30, top_p=0.9, min_p=0.01)
    possible = logits[2:3]
    warpers: list[Any] = [TemperatureLogitsWarper(1.5), TopKLogitsWarper(30)]
    for each in (*warpers, TopPLogitsWarper(0.9), MinPLogitsWarper(0.01)):
        possible = each(None, possible)
    seen: set[int] = set()
    for seed in range(100):
        found = chosen({0: row(), 2: row(seed=seed, **drawn), 5: row(seed=seed, temperature=0.001)}, logits)
        assert found.keys() == {0, 2, 5}
        assert (found[0].id, found[5].id) == (int(logits[0].argmax()), int(logits[5].argmax()))
        assert found[2] == chosen({2: row(seed=seed, **drawn)}, logits)[2]
        seen.add(found[2].id)
    likely = (possible[0].softmax(-1) > 0.06).nonzero()[:, 0].tolist()
    assert set(likely) <= seen <= set(possible[0].isfinite().nonzero()[:, 0].tolist())
    draws = [chosen({2: row(new=(0,) * n, **drawn)}, logits)[2].id for n in range(30)]
    assert len(set(draws)) > 5, "each token has a draw of its own"


def test_choose_fails_rows_that_are_not_finite() -> None:
    logits = torch.zeros(3, 5)
    logits[1, 2], logits[:, 4] = torch.nan, 1.0
    found = chosen({0: row(), 1: row(temperature=1.0), 2: row(temperature=1.0)}, logits)
    assert isinstance(found[1], ModelError)
    assert found[0] == NewToken(id=4)
    assert 0 <= found[2].id < 5


@pytest.mark.parametrize(
    ("ids", "prompt", "new", "penalised"),
    [
        ([9, 9, 1, 2, 3], 2, (3,), [1, 2, 3]),  # two of padding before the prompt
        ([3], 2, (3,), [3]),  # a prompt of embeddings
        ([4], 2, (3, 4), [3, 4]),  # and one that was begun again
        ([], 2, (), []),
    ],
)
def test_choose_penalises_what_occurred(
    ids: list[int], prompt: int, new: tuple[int, ...], penalised: list[int]
) -> None:
    logits = torch.randn(1, 10, generator=torch.Generator().manual_seed(1)).abs() + 1
    expected = logits.clone()
    if penalised:
        penalty: Any = RepetitionPenaltyLogitsProcessor(50.0)
        expected = penalty(torch.tensor([penalised]), logits)
    before = logits.clone()
    found = chosen({0: row(new, prompt, repetition_penalty=50, logprobs=10)}, logits, [ids])[0]
    assert found.id == int(expected.argmax())
    assert torch.equal(logits, before)
    assert found.logprob == pytest.approx(float(logits.log_softmax(-1)[0, found.id]))
    assert [token for token, _ in found.top] == logits[0].argsort(descending=True).tolist()
