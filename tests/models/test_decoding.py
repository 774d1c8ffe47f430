"""A row's answer is the same in any batch, with any rows beside it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import LlamaConfig, LlamaForCausalLM, T5Config, T5ForConditionalGeneration

from mllm.errors import ConfigError
from mllm.models.cache import roomy_cache
from mllm.models.decoding import Decoding, closed_up

PAD = 9
ENDS = list(range(1, 9))
"""So many of 64 tokens end an answer that random ones end at different lengths."""
SAMPLED: dict[str, Any] = dict(do_sample=True, temperature=1.3, top_k=50, top_p=0.95)


@pytest.fixture(scope="module")
def llama() -> Any:
    torch.manual_seed(0)
    sizes: dict[str, Any] = dict(hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2)
    return LlamaForCausalLM(LlamaConfig(vocab_size=64, initializer_range=0.6, **sizes)).eval()


def prompts(rows: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Of different lengths, padded on the left."""
    ids = torch.randint(10, 64, (rows, 6), generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(ids)
    for row in range(rows):
        mask[row, : row % 4] = 0
    return ids.masked_fill(mask == 0, PAD), mask


def answers(model: Any, rows: list[int], *, leaving: bool = True, seed: int = 0, **options: Any) -> list[list[int]]:
    ids, mask = (tensor[rows] for tensor in prompts(12))
    if not model.config.is_encoder_decoder:
        options |= roomy_cache(model, {})
    found = model.generate(
        input_ids=ids,
        attention_mask=mask,
        max_new_tokens=10,
        eos_token_id=ENDS,
        pad_token_id=PAD,
        custom_generate=Decoding(seed=seed, items=rows, leaving=leaving),
        **options,
    )
    start = 1 if model.config.is_encoder_decoder else ids.shape[1]
    return [[token for token in row if token != PAD] for row in found[:, start:].tolist()]


@pytest.mark.parametrize("options", [dict(repetition_penalty=1.5), SAMPLED, dict(num_beams=3)])
@pytest.mark.parametrize("leaving", [True, False])
def test_rows_in_a_batch_answer_as_they_do_alone(llama: Any, options: dict[str, Any], leaving: bool) -> None:
    together = answers(llama, list(range(12)), leaving=leaving, **options)
    assert len(set(map(len, together))) > 3
    assert together == [answers(llama, [row], **options)[0] for row in range(12)]
    order = [5, 2, 11, 0, 7]
    assert answers(llama, order, leaving=leaving, **options) == [together[row] for row in order]


def test_answers_are_those_of_transformers_own_loop(llama: Any) -> None:
    ids, mask = prompts(12)
    own = llama.generate(
        input_ids=ids, attention_mask=mask, max_new_tokens=10, eos_token_id=ENDS, pad_token_id=PAD, do_sample=False
    )
    assert answers(llama, list(range(12))) == [[t for t in row if t != PAD] for row in own[:, 6:].tolist()]


def test_finished_rows_cost_nothing(llama: Any) -> None:
    rows: list[int] = []
    hook = llama.model.register_forward_hook(lambda module, args, output: rows.append(len(output[0])))
    lengths = list(map(len, answers(llama, list(range(12)))))
    hook.remove()
    assert rows == [sum(length > step for length in lengths) for step in range(max(lengths))]


def test_an_encoder_decoder_keeps_its_rows() -> None:
    torch.manual_seed(0)
    sizes: dict[str, Any] = dict(
        d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2, dropout_rate=0.0, decoder_start_token_id=PAD
    )
    model = T5ForConditionalGeneration(T5Config(vocab_size=64, **sizes)).eval()
    together = answers(model, list(range(12)), leaving=False, **SAMPLED)
    assert len(set(map(len, together))) > 1
    assert together == [answers(model, [row], leaving=False, **SAMPLED)[0] for row in range(12)]


def test_another_seed_is_another_sample(llama: Any) -> None:
    torch.manual_seed(0)
    first = answers(llama, list(range(12)), **SAMPLED)
    torch.manual_seed(1)
    assert answers(llama, list(range(12)), **SAMPLED) == first
    assert answers(llama, list(range(12)), seed=1, **SAMPLED) != first


def test_tokens_are_drawn_as_likely_as_they_are() -> None:
    scores = torch.tensor([-torch.inf, 2.0, -torch.inf, 0.5, 1.0, -torch.inf])
    count = 20_000
    drawn = Decoding(seed=0, items=range(count))._draw(scores.expand(count, -1), range(count))
    shares = drawn.bincount(minlength=6) / count
    assert torch.allclose(shares, scores.softmax(-1), atol=0.01)
    assert shares[scores.isinf()].sum() == 0


def test_what_is_not_exact_is_refused(llama: Any) -> None:
    with pytest.raises(ConfigError, match=r"ask for beam_sample: .*do_sample=True.*num_beams=2"):
        answers(llama, [0, 1], do_sample=True, num_beams=2)


@given(st.lists(st.booleans(), max_size=20))
def test_gaps_are_filled_from_behind(running: list[bool]) -> None:
    places = closed_up(running)
    assert sorted(places) == [place for place, runs in enumerate(running) if runs]
    assert all(place == row or row >= len(places) for place, row in enumerate(places))
