"""Candidates have the log-probabilities that they have one by one, however they are read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from mllm.errors import ModelError
from mllm.models.runtime import ranking
from mllm.models.runtime.ranking import candidate_log_probs, ranking_way, trees
from tests.marks import slow_but
from tests.models import tiny_flamingo, tiny_hf, tiny_seq2seq
from tests.pipeline.packed import LANGUAGE_MODELS, build

CANDIDATES = [[5, 6, 7], [8], [5, 6], [5, 9, 10, 11], [12, 6, 7], [5, 6, 7]]
STATES = dict(model_type="mamba", hidden_size=16, num_hidden_layers=2, state_size=8)


def alone(model: Any, prompt: dict[str, Any], candidates: Sequence[Sequence[int]]) -> torch.Tensor:
    """By the logits of whole rows without a cache, one at a time; the prompt has no padding."""
    sums: list[float] = []
    size = prompt["input_ids"].shape[1]
    for ids in candidates:
        whole = torch.cat([prompt["input_ids"], torch.tensor([ids])], 1)
        row = {**prompt, "input_ids": whole, "attention_mask": torch.ones_like(whole)}
        if model.config.model_type == "paligemma":  # 1 from the answer on
            row["token_type_ids"] = (torch.arange(whole.shape[1]) >= size).long()[None]
        with torch.no_grad():
            logits = model(**row).logits[0]
        likely = logits[size - 1 : -1].double().log_softmax(-1).gather(1, torch.tensor(ids)[:, None])
        sums.append(float(likely.sum()))
    return torch.tensor(sums, dtype=torch.float64)


def same(found: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


@pytest.fixture(params=["in one", "in pieces"])
def pieces(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "in pieces":
        monkeypatch.setattr(ranking, "LOGITS_AT_ONCE", 1)
        monkeypatch.setattr(ranking, "ROW_TOKENS", 40)


@pytest.mark.usefixtures("pieces")
@pytest.mark.parametrize("text", slow_but(["llama", "mpt", "opt"], tiny_flamingo.LMS))
def test_flamingo_reads_media_and_prompt_once(text: str) -> None:
    model = tiny_flamingo.make(text).eval()
    batch = tiny_flamingo.make_batch(model)
    index = batch["image_index"]
    for row, mine in ((0, index[:2]), (1, index[2:])):
        kept = batch["attention_mask"][row].bool()
        ids = batch["input_ids"][row, kept][None]
        prompt = {"input_ids": ids, "pixels": batch["pixels"], "image_index": mine}
        (found,) = candidate_log_probs(model, {**prompt, "attention_mask": torch.ones_like(ids)}, [CANDIDATES])
        same(found, alone(model, prompt, CANDIDATES))
    assert ranking_way(model) == ("rows" if text in ("mpt", "gemma2") else "tree")


@pytest.mark.usefixtures("pieces")
@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("name", slow_but(["llama", "gemma2", "mamba"], [*LANGUAGE_MODELS, "mamba"]))
def test_llava_reads_prompts_once(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    items, processor, model = build(language_model={**LANGUAGE_MODELS, "mamba": STATES}[name])
    items.set_epoch(None)
    prompts = [tiny_hf.batch_of(processor, [items[number]], answer=False) for number in range(3)]
    expected = [alone(model, prompt, CANDIDATES) for prompt in prompts]
    for prompt, sums in zip(prompts, expected, strict=True):
        (found,) = candidate_log_probs(model, prompt, [CANDIDATES])
        same(found, sums)
    assert ranking_way(model) == {"gemma2": "rows", "mpt": "rows", "mamba": "alone"}.get(name, "tree")
    together = tiny_hf.batch_of(processor, [items[number] for number in range(3)], answer=False)
    lists = [CANDIDATES, CANDIDATES[:2], CANDIDATES[1:2]]
    if ranking_way(model) == "tree":
        for found, sums, some in zip(
            candidate_log_probs(model, together, lists), expected, (slice(None), slice(2), slice(1, 2)), strict=True
        ):
            same(found, sums[some])
    else:
        with pytest.raises(ModelError, match="one prompt at a time"):
            candidate_log_probs(model, together, lists)


@pytest.mark.usefixtures("pieces")
@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("family", slow_but(["qwen3_vl", "internvl", "paligemma"], tiny_hf.FAMILIES))
def test_transformers_own_models_read_prompts_once(family: str, tmp_path: Path) -> None:
    model, processor = tiny_hf.build(str(tiny_hf.save_tiny(family, tmp_path)))
    model.eval()
    items = [tiny_hf.ask((40, 20)), tiny_hf.ask((17, 50), seed=1)]
    expected: list[torch.Tensor] = []
    for item in items:
        prompt = tiny_hf.batch_of(processor, [item], answer=False)
        expected.append(alone(model, prompt, CANDIDATES))
        (found,) = candidate_log_probs(model, prompt, [CANDIDATES])
        same(found, expected[-1])
    if ranking_way(model) == "tree":
        together = tiny_hf.batch_of(processor, items, answer=False)
        for found, sums in zip(candidate_log_probs(model, together, [CANDIDATES] * 2), expected, strict=True):
            same(found, sums)


def test_an_encoder_decoder_model_reads_each_with_its_prompt() -> None:
    model = tiny_seq2seq.make().eval()
    prompt = torch.tensor([[5, 6, 7, 2]])
    arguments = {"input_ids": prompt, "attention_mask": torch.ones_like(prompt)}
    (found,) = candidate_log_probs(model, arguments, [CANDIDATES])
    inner: Any = model.language_model
    for ids, total in zip(CANDIDATES, found.tolist(), strict=True):
        with torch.no_grad():
            logits = inner(**arguments, labels=torch.tensor([ids])).logits[0].log_softmax(-1)
        assert total == pytest.approx(float(logits.gather(1, torch.tensor(ids)[:, None]).sum()), abs=1e-5)


def test_values_that_are_no_numbers_are_refused() -> None:
    items, processor, model = build()
    items.set_epoch(None)
    with torch.no_grad():
        model.language_model.lm_head.weight.fill_(float("nan"))
    with pytest.raises(ModelError, match="nan or infinite"):
        candidate_log_probs(model, tiny_hf.batch_of(processor, [items[0]], answer=False), [CANDIDATES])


def test_candidates_beyond_the_table_of_positions_are_refused() -> None:
    model = tiny_flamingo.make("gpt2").eval()
    prompt = torch.tensor([[5] * 60])
    given = {"input_ids": prompt, "attention_mask": torch.ones_like(prompt)}
    assert candidate_log_probs(model, given, [[[5] * 5]])[0].isfinite().all()
    with pytest.raises(ModelError, match="at most 64 tokens, the most that the language model reads, found 65"):
        candidate_log_probs(model, given, [[[5] * 6, [7]]])


def test_a_tree_holds_a_common_beginning_once() -> None:
    (tree,) = trees(CANDIDATES, 100)
    assert tree.tokens == [5, 6, 9, 10, 12, 6]
    assert tree.parents == [-1, 0, 0, 2, -1, 4]
    assert tree.depths == [0, 1, 1, 2, 0, 1]
    assert tree.sees(7)[3].tolist() == [True, False, True, True, False, False, False]
    for room in (1, 2, 4):
        found = list(trees(CANDIDATES, room))
        assert sorted({number for tree in found for number, _, _ in tree.wanted}) == list(range(len(CANDIDATES)))
        assert all(len(tree.tokens) <= max(room, 3) for tree in found)
