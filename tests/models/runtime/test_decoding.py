"""A row's answer is the same in any batch, with any rows beside it."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import LlamaConfig, LlamaForCausalLM, T5Config, T5ForConditionalGeneration

from mllm.errors import ConfigError
from mllm.models.runtime import decoding as decoding_module
from mllm.models.runtime.decoding import ContinuousBatcher, closed_up, draw
from mllm.models.runtime.kv_cache import PreallocatedCacheLayer, roomy_cache

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
    decoding = ContinuousBatcher(seed=seed, leaving=leaving)
    generate(model, rows, decoding, **options)
    return in_order(decoding.take(), rows)


def generate(model: Any, rows: list[int], decoding: ContinuousBatcher, **options: Any) -> None:
    ids, mask = (tensor[rows] for tensor in prompts(12))
    if not model.config.is_encoder_decoder:
        options |= roomy_cache(model, {})
    model.generate(
        input_ids=ids,
        attention_mask=mask,
        max_new_tokens=10,
        eos_token_id=ENDS,
        pad_token_id=PAD,
        custom_generate=decoding.begin(rows),
        **options,
    )


def in_order(found: dict[int, list[int]], rows: list[int]) -> list[list[int]]:
    assert found.keys() == set(rows)
    return [[token for token in found[row] if token != PAD] for row in rows]


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


@pytest.mark.parametrize("options", [dict(repetition_penalty=1.5), SAMPLED])
@pytest.mark.parametrize("room", [3, 5])
def test_a_batch_joins_what_is_left_of_those_before_it(llama: Any, options: dict[str, Any], room: int) -> None:
    """Of whatever lengths the prompts are: padding is cut off and comes to."""
    rows: list[int] = []
    hook = llama.model.register_forward_hook(lambda module, args, output: rows.append(output[0].shape[:2].numel()))
    decoding = ContinuousBatcher(seed=0, leaving=True, most=room)
    batches = [[4, 8], [1, 2, 3], [0], [7, 11], [5], [6, 9, 10]]  # rows 0, 4 and 8 are the longest
    found: dict[int, list[int]] = {}
    waited: list[int] = []
    for batch in batches:
        decoding.step_until_free(len(batch))
        generate(llama, batch, decoding, **options)
        found |= decoding.take()
        waited.append(len(found))
    decoding.finish()
    found |= decoding.take()
    hook.remove()
    everyone = list(range(12))
    together = in_order(found, everyone)
    assert together == answers(llama, everyone, **options)
    assert waited[0] < 2, "the first batch was decoded to its end before the second"
    assert max(rows) <= 6 * room
    assert len(set(rows)) > 3


def test_columns_that_no_row_holds_are_cut_off(llama: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    cut: list[int] = []
    own = PreallocatedCacheLayer.crop_left
    monkeypatch.setattr(
        PreallocatedCacheLayer, "crop_left", lambda self, columns: cut.append(columns) or own(self, columns)
    )
    monkeypatch.setattr(decoding_module, "ROOM", 3)
    decoding = ContinuousBatcher(seed=0, leaving=True, most=3)
    for row in [0, 1, 2, 3, 5, 6, 7, 9, 10, 11]:
        decoding.step_until_free(1)
        generate(llama, [row], decoding)
    decoding.finish()
    assert min(cut) >= 3
    rows = [0, 1, 2, 3, 5, 6, 7, 9, 10, 11]
    assert in_order(decoding.take(), rows) == answers(llama, rows)


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
    drawn = draw(scores.expand(count, -1), [random.Random(item) for item in range(count)])
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
