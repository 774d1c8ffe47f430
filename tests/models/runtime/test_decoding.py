"""A row's answer is the same in any batch, with any rows beside it."""

from __future__ import annotations

import copy
import random
from typing import Any

import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st
from transformers import LlamaConfig, LlamaForCausalLM, T5Config, T5ForConditionalGeneration

from mllm.compat import transformers_generation
from mllm.errors import ConfigError, ModelError
from mllm.models.runtime import decoding as decoding_module
from mllm.models.runtime.decoded_rows import draw_tokens
from mllm.models.runtime.decoding import ContinuousBatcher, closed_up
from mllm.models.runtime.kv_cache import PreallocatedCacheLayer, roomy_cache
from tests.marks import grid

PAD = 9
ENDS = list(range(1, 9))
"""So many of 64 tokens end an answer that random ones end at different lengths."""
SAMPLED: dict[str, Any] = dict(do_sample=True, temperature=1.3, top_k=50, top_p=0.95)


class Continuing(LlamaForCausalLM):
    """As our own models do, `generate` returns new tokens only."""

    def generate(self, input_ids: torch.Tensor, **arguments: Any) -> Any:
        return super().generate(input_ids=input_ids, **arguments)[:, input_ids.shape[1] :]


@pytest.fixture(scope="module")
def llama() -> Any:
    torch.manual_seed(0)
    sizes: dict[str, Any] = dict(hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2)
    return Continuing(LlamaConfig(vocab_size=64, initializer_range=0.6, **sizes)).eval()


def prompts(rows: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Of different lengths, padded on the left."""
    ids = torch.randint(10, 64, (rows, 6), generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(ids)
    for row in range(rows):
        mask[row, : row % 4] = 0
    return ids.masked_fill(mask == 0, PAD), mask


def answers(model: Any, rows: list[int], *, evict: bool = True, seed: int = 0, **options: Any) -> list[list[int]]:
    batcher = ContinuousBatcher(seed=seed, evict_finished=evict)
    generate(model, rows, batcher, **options)
    return in_order(batcher.pop_finished(), rows)


def generate(
    model: Any, rows: list[int], batcher: ContinuousBatcher, *, choose: Any = None, seeds: Any = None, **options: Any
) -> None:
    ids, mask = (tensor[rows] for tensor in prompts(12))
    if not model.config.is_encoder_decoder:
        options |= roomy_cache(model, {})
    settings = dict(max_new_tokens=10, eos_token_id=ENDS, pad_token_id=PAD)
    batcher.generate(
        model, rows, {"input_ids": ids, "attention_mask": mask, **settings, **options}, choose=choose, seeds=seeds
    )


def in_order(found: dict[int, list[int]], rows: list[int]) -> list[list[int]]:
    assert found.keys() == set(rows)
    return [[token for token in found[row] if token != PAD] for row in rows]


@pytest.mark.parametrize(
    ("options", "evict"), grid([dict(repetition_penalty=1.5), SAMPLED, dict(num_beams=3)], [True, False])
)
def test_rows_in_a_batch_answer_as_they_do_alone(llama: Any, options: dict[str, Any], evict: bool) -> None:
    together = answers(llama, list(range(12)), evict=evict, **options)
    assert len(set(map(len, together))) > 3
    assert together == [answers(llama, [row], **options)[0] for row in range(12)]
    order = [5, 2, 11, 0, 7]
    assert answers(llama, order, evict=evict, **options) == [together[row] for row in order]


def test_answers_are_those_of_transformers_own_loop(llama: Any) -> None:
    ids, mask = prompts(12)
    own = llama.generate(
        input_ids=ids, attention_mask=mask, max_new_tokens=10, eos_token_id=ENDS, pad_token_id=PAD, do_sample=False
    )
    assert answers(llama, list(range(12))) == [[t for t in row if t != PAD] for row in own.tolist()]


def test_finished_rows_cost_nothing(llama: Any) -> None:
    rows: list[int] = []
    hook = llama.model.register_forward_hook(lambda module, args, output: rows.append(len(output[0])))
    lengths = list(map(len, answers(llama, list(range(12)))))
    hook.remove()
    assert rows == [sum(length > step for length in lengths) for step in range(max(lengths))]


@pytest.mark.parametrize("options", [dict(repetition_penalty=1.5), SAMPLED])
def test_rows_part_behind_one_reading_of_their_prompt(llama: Any, options: dict[str, Any]) -> None:
    """Each is what it is behind a reading of its own."""
    read: list[int] = []
    hook = llama.model.register_forward_hook(lambda module, args, output: read.append(len(output[0])))
    seeds = [f"row {number}" for number in range(12)]
    batcher = ContinuousBatcher(seed=0, evict_finished=True)
    ids, mask = (tensor[[5, 2, 11]] for tensor in prompts(12))
    settings = dict(max_new_tokens=10, eos_token_id=ENDS, pad_token_id=PAD, **options, **roomy_cache(llama, {}))
    batcher.generate(llama, range(12), {"input_ids": ids, "attention_mask": mask, **settings}, seeds=seeds)
    hook.remove()
    together = in_order(batcher.pop_finished(), list(range(12)))
    assert read[:2] == [3, sum(len(answer) > 1 for answer in together)]
    assert (len(set(map(tuple, together))) > 6) == (options is SAMPLED)
    for row, prompt in enumerate([5, 5, 5, 5, 2, 2, 2, 2, 11, 11, 11, 11]):
        alone = ContinuousBatcher(seed=0)
        generate(llama, [prompt], alone, seeds=[seeds[row]], **options)
        assert in_order(alone.pop_finished(), [prompt]) == [together[row]]


@pytest.mark.parametrize(("options", "room"), grid([dict(repetition_penalty=1.5), SAMPLED], [3, 5]))
def test_a_batch_joins_what_is_left_of_those_before_it(llama: Any, options: dict[str, Any], room: int) -> None:
    """Of whatever lengths the prompts are: padding is cut off and comes to."""
    rows: list[int] = []
    hook = llama.model.register_forward_hook(lambda module, args, output: rows.append(output[0].shape[:2].numel()))
    batcher = ContinuousBatcher(seed=0, evict_finished=True, max_rows=room)
    batches = [[4, 8], [1, 2, 3], [0], [7, 11], [5], [6, 9, 10]]  # rows 0, 4 and 8 are the longest
    found: dict[int, list[int]] = {}
    waited: list[int] = []
    for batch in batches:
        batcher.step_until_free(len(batch))
        generate(llama, batch, batcher, **options)
        found |= batcher.pop_finished()
        waited.append(len(found))
    batcher.finish()
    found |= batcher.pop_finished()
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
    batcher = ContinuousBatcher(seed=0, evict_finished=True, max_rows=3)
    for row in [0, 1, 2, 3, 5, 6, 7, 9, 10, 11]:
        batcher.step_until_free(1)
        generate(llama, [row], batcher)
    batcher.finish()
    assert min(cut) >= 3
    rows = [0, 1, 2, 3, 5, 6, 7, 9, 10, 11]
    assert in_order(batcher.pop_finished(), rows) == answers(llama, rows)


def test_an_encoder_decoder_keeps_its_rows() -> None:
    torch.manual_seed(0)
    sizes: dict[str, Any] = dict(
        d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2, dropout_rate=0.0, decoder_start_token_id=PAD
    )
    model = T5ForConditionalGeneration(T5Config(vocab_size=64, **sizes)).eval()
    together = answers(model, list(range(12)), evict=False, **SAMPLED)
    assert len(set(map(len, together))) > 1
    assert together == [answers(model, [row], evict=False, **SAMPLED)[0] for row in range(12)]


def test_another_seed_is_another_sample(llama: Any) -> None:
    torch.manual_seed(0)
    first = answers(llama, list(range(12)), **SAMPLED)
    torch.manual_seed(1)
    assert answers(llama, list(range(12)), **SAMPLED) == first
    assert answers(llama, list(range(12)), seed=1, **SAMPLED) != first


def test_tokens_are_drawn_as_likely_as_they_are() -> None:
    scores = torch.tensor([-torch.inf, 2.0, -torch.inf, 0.5, 1.0, -torch.inf])
    count = 20_000
    drawn = draw_tokens(scores.expand(count, -1), [random.Random(item) for item in range(count)])
    shares = drawn.bincount(minlength=6) / count
    assert torch.allclose(shares, scores.softmax(-1), atol=0.01)
    assert shares[scores.isinf()].sum() == 0


def test_what_is_not_exact_is_refused(llama: Any) -> None:
    with pytest.raises(ConfigError, match=r"gen_kwargs: expected .*do_sample=True.*num_beams=2.*, found beam_sample"):
        answers(llama, [0, 1], do_sample=True, num_beams=2)


def test_generate_without_private_names_of_transformers(
    llama: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Greedy and beam search give the same answers, sampling repeats by the seed, and the slower way is said once."""
    rows = list(range(12))
    greedy, beams = answers(llama, rows), answers(llama, rows, num_beams=3)
    decoding_module._warn_of_missing.cache_clear()
    monkeypatch.setattr(transformers_generation, "PRIVATE_STEPS", ("_prefill", "_gone"))
    assert answers(llama, rows) == greedy
    assert answers(llama, rows, num_beams=3) == beams
    assert [record.getMessage().partition(": ")[0] for record in caplog.records if "_gone" in record.getMessage()] == [
        f"transformers {transformers.__version__} has no _gone"
    ]
    sampled = answers(llama, rows, **SAMPLED)
    assert sampled != greedy
    assert answers(llama, rows, **SAMPLED) == sampled
    assert answers(llama, rows, seed=1, **SAMPLED) != sampled
    with pytest.raises(ConfigError, match=r"gen_kwargs: expected .*, found beam_sample"):
        answers(llama, rows, do_sample=True, num_beams=2)


def test_generate_without_private_names_refuses_scores_that_are_not_finite(
    llama: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transformers_generation, "PRIVATE_STEPS", ("_gone",))
    broken = Continuing(llama.config)
    torch.nn.init.constant_(broken.lm_head.weight, torch.nan)
    with pytest.raises(ModelError, match="nan or infinite"):
        answers(broken, [0, 1])


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        ([5, 6, 2, 9, 9], [5, 6, 2]),
        ([5, 9, 9], [5]),
        ([5, 6], [5, 6]),
        ([2, 5], [2]),
        ([9, 9], []),
        ([5, 9, 6], [5, 9, 6]),
    ],
)
def test_until_the_end_cuts_after_the_first_end_token_and_padding(ids: list[int], expected: list[int]) -> None:
    assert decoding_module._until_the_end(ids, [2, 3], 9) == expected


@given(st.lists(st.booleans(), max_size=20))
def test_gaps_are_filled_from_behind(running: list[bool]) -> None:
    places = closed_up(running)
    assert sorted(places) == [place for place, runs in enumerate(running) if runs]
    assert all(place == row or row >= len(places) for place, row in enumerate(places))


def chooser(found: dict[int, list[int]], most: dict[int, int]) -> Any:
    """Greedy: the tokens of each item until its own length."""

    def choose(items: Any, ids: Any, logits: torch.Tensor, scores: torch.Tensor) -> Any:
        tokens = scores.argmax(-1).tolist()
        for item, token in zip(items, tokens, strict=True):
            if len(found.setdefault(item, [])) < most[item]:
                found[item].append(token)
        return tokens, [len(found[item]) >= most[item] for item in items]

    return choose


@pytest.mark.parametrize("evict", [True, False])
@pytest.mark.parametrize("options", [{}, dict(no_repeat_ngram_size=1, min_new_tokens=4)])
def test_a_function_may_choose_tokens_and_ends(llama: Any, options: dict[str, Any], evict: bool) -> None:
    """The rows of all batches become one; processors of the generation config see each row as it is alone."""
    most = {row: 3 + row % 5 for row in range(12)}
    found: dict[int, list[int]] = {}
    batcher = ContinuousBatcher(seed=0, evict_finished=evict, max_rows=12 if evict else None)
    for batch in [[4, 8], [1, 2, 3], [0], [7, 11], [5], [6, 9, 10]]:
        generate(llama, batch, batcher, choose=chooser(found, most), **options)
        if evict:
            assert len(batcher._batches) == 1
            batcher.step()
    batcher.finish()
    assert batcher.pop_finished() == {}
    assert batcher.items == set()
    for row in range(12):
        alone = answers(llama, [row], **options, max_new_tokens=most[row])[0]
        assert found[row][: len(alone)] == alone
        assert len(found[row]) == most[row]


def test_a_step_that_fails_leaves_nothing_behind(llama: Any) -> None:
    batcher = ContinuousBatcher(seed=0, evict_finished=True, max_rows=4)
    generate(llama, [0, 1], batcher)
    assert batcher.items == {0, 1}

    def fail(*_: Any) -> None:
        raise torch.OutOfMemoryError

    hook = llama.model.layers[1].register_forward_pre_hook(fail)
    with pytest.raises(torch.OutOfMemoryError):
        batcher.step()
    hook.remove()
    assert batcher.items == set()
    assert batcher.cache is None
    generate(llama, [0, 1], batcher)
    batcher.finish()
    assert in_order(batcher.pop_finished(), [0, 1]) == answers(llama, [0, 1])


@pytest.mark.parametrize("options", [{}, {"num_beams": 2}, {"do_sample": True}])
def test_scores_that_are_not_finite_are_no_answer(llama: Any, options: dict[str, Any]) -> None:
    spoilt = copy.deepcopy(llama)
    spoilt.get_output_embeddings().weight.data[5] = float("nan")
    with pytest.raises(ModelError, match="the scores of the next token are nan or infinite"):
        answers(spoilt, [0], **options)
