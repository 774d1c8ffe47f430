"""Requests that run together are answered as each is alone, and none harms the others."""

from __future__ import annotations

import random
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from mllm.conversation.collator import Collator
from mllm.models.runtime.kv_cache import PreallocatedCacheLayer
from mllm.serve.request import Closed, QueueFull, by_content, prefix_key
from mllm.serve.sampling import Sampling
from mllm.types import EncodedSample
from tests.marks import slow_but
from tests.models.tiny import TEXT
from tests.models.tiny_flamingo import PERCEIVER
from tests.models.tiny_hf import build as build_hf
from tests.models.tiny_hf import save_tiny
from tests.pipeline.packed import LANGUAGE_MODELS, build
from tests.serve.asking import ENDS, LONG, SHORT, Asked, alone, item, photo, ready, running, samples

FLAMINGO: dict[str, Any] = dict(cross_attn_every_n_layers=1, perceiver=PERCEIVER)


@pytest.fixture(scope="module")
def llava() -> Any:
    torch.manual_seed(0)
    return ready(*build(language_model={**LANGUAGE_MODELS["llama"], "initializer_range": 0.3})[:0:-1])


@pytest.fixture(scope="module")
def answers(llava: Any) -> list[list[int]]:
    """Of the model alone, twenty tokens of each at most."""
    return [alone(llava, each, ENDS, max_new_tokens=20) for each in samples(llava)]


def test_requests_that_join_at_odd_times_are_answered_as_alone(llava: Any, answers: list[list[int]]) -> None:
    every = samples(llava)
    limits = [3 + 5 * n % 17 for n in range(len(every))]
    expected = [ids[:most] for ids, most in zip(answers, limits, strict=True)]
    assert len(set(map(len, expected))) > 5
    with running(llava, max_rows=6) as engine:
        asked: list[Asked] = []
        for n, (each, most) in enumerate(zip(every, limits, strict=True)):
            asked.append(Asked(engine, each, Sampling(max_new_tokens=most)))
            if n % 3 == 0:
                asked[random.Random(n).randrange(len(asked))].first.wait(60)
        ends = [each.wait() for each in asked]
        stats = engine.stats()
    assert [each.ids for each in asked] == expected
    assert [end.reason for end in ends] == ["stop" if ids[-1] in ENDS else "length" for ids in expected]
    assert stats.new_tokens == sum(map(len, expected))
    assert stats.steps < 0.6 * stats.new_tokens, "they ran together"
    assert stats.way == "joined"
    assert stats.obstacle is None
    assert sum(stats.finished.values()) == 20


def tell_apart(one: Any, way: str, **limits: Any) -> None:
    """Six requests and again six, some while the first are running."""
    items = [item("where is the " + "red " * n + "circle?", photo(n % 2, 20 + 20 * (n % 2))) for n in range(4)]
    items += [item("what is it? " + "left " * n) for n in range(2)]
    every = samples(one, items)
    expected = [alone(one, each, ENDS, max_new_tokens=9) for each in every]
    assert len({tuple(ids) for ids in expected}) > 2
    with running(one, max_rows=4, **limits) as engine:
        asked = [Asked(engine, each, Sampling(max_new_tokens=9)) for each in every]
        asked[2].first.wait(60)
        again = [Asked(engine, each, Sampling(max_new_tokens=9)) for each in every[::-1]]
        assert {each.wait().reason for each in (*asked, *again)} <= {"stop", "length"}
        stats = engine.stats()
    assert [each.ids for each in asked] == expected
    assert [each.ids for each in again] == expected[::-1]
    assert stats.way == way
    assert (stats.obstacle is None) == (way == "joined")
    assert (stats.prefix_reads, stats.prefix_hits) == ((2, 6) if way == "joined" else (0, 0))


@pytest.mark.parametrize("family", slow_but(["qwen2_vl"], ["qwen2_vl", "internvl"]))
def test_models_of_transformers_answer_as_alone(family: str, tmp_path: Path) -> None:
    tell_apart(ready(*build_hf(str(save_tiny(family, tmp_path)))), "joined")


@pytest.mark.parametrize(
    ("way", "changes"),
    [
        ("together", dict(type="openflamingo", **FLAMINGO)),
        ("together", dict(language_model=LANGUAGE_MODELS["mpt"])),
        ("together", dict(language_model=TEXT["qwen3_next"])),
    ],
)
def test_models_whose_rows_cannot_join_answer_as_alone(way: str, changes: dict[str, Any]) -> None:
    without = ["connector", "feature_layer"] if "type" in changes else []
    torch.manual_seed(0)
    _, processor, model = build(without=without, **changes)
    with torch.no_grad():
        for parameter in model.parameters():  # opens gates, and tells answers apart
            parameter.add_(0.1 * torch.randn_like(parameter))
    tell_apart(ready(model, processor), way)


SAMPLED = Sampling(max_new_tokens=12, temperature=1.5, top_k=200, top_p=0.98, min_p=0.001, seed=3)


def test_a_seed_draws_the_same_among_any_others(llava: Any, answers: list[list[int]]) -> None:
    every = samples(llava)[::3]
    settings = [replace(SAMPLED, seed=n, temperature=1 + n / 4) for n in range(len(every))]
    settings[1] = replace(settings[1], temperature=0)
    with running(llava, max_rows=5) as engine:
        asked = [Asked(engine, *each) for each in zip(every, settings, strict=True)]
        [each.wait() for each in asked]
        repeated: list[Asked] = []
        for pair in zip(every, settings, strict=True):
            repeated.append(Asked(engine, *pair))
            repeated[-1].wait()
        other = Asked(engine, every[0], replace(settings[0], seed=99))
        other.wait()
    assert [each.ids for each in asked] == [each.ids for each in repeated]
    assert other.ids != asked[0].ids
    assert asked[1].ids == answers[3][:12]


def test_a_repetition_penalty_is_that_of_the_model_alone(llava: Any) -> None:
    every = samples(llava)[:6]
    expected = [alone(llava, each, ENDS, max_new_tokens=9, repetition_penalty=1.7) for each in every]
    with running(llava) as engine:
        asked = [Asked(engine, each, Sampling(max_new_tokens=9, repetition_penalty=1.7)) for each in every]
        [each.wait() for each in asked]
    assert [each.ids for each in asked] == expected


def test_cancelling_frees_the_row(llava: Any) -> None:
    first, second, third = samples(llava)[:3]
    with running(llava, max_rows=1) as engine:
        engine._ends.ids = set()
        long = Asked(engine, first, LONG)
        long.first.wait(60)
        never, after = Asked(engine, second, LONG), Asked(engine, third, SHORT)
        never.ticket.cancel()
        assert never.wait().reason == "cancelled"
        assert engine.stats().running == 1
        long.ticket.cancel()
        long.ticket.cancel()
        assert long.wait().reason == "cancelled"
        assert after.wait().reason == "length"
        after.ticket.cancel()
        assert never.tokens == []
        assert 0 < len(long.tokens) < 400
        assert engine.stats().finished == {"stop": 0, "length": 1, "cancelled": 2, "error": 0}


def test_a_full_queue_refuses_and_first_come_are_first_served(llava: Any) -> None:
    go, order = threading.Event(), []
    every = samples(llava)[:4]
    with running(llava, max_rows=1, max_waiting=2) as engine:
        asked = [Asked(engine, every[0], SHORT, lambda: go.wait(60))]
        asked[0].first.wait(60)
        asked += [Asked(engine, every[n], SHORT, lambda n=n: order.append(n)) for n in (1, 2)]
        with pytest.raises(QueueFull, match="2 requests wait already; try again in 1 s") as refused:
            Asked(engine, every[3], SHORT)
        assert (refused.value.waiting, refused.value.retry_after_s) == (2, 1)
        go.set()
        assert {each.wait().reason for each in asked} <= {"stop", "length"}
        assert order == sorted(order)
        Asked(engine, every[3], SHORT).wait()


def broken(every: list[EncodedSample]) -> dict[str, EncodedSample]:
    """Requests that fail, by what their errors say."""
    pixels = every[1].pixels[0]["pixels"]
    nan = {**every[1].pixels[0], "pixels": torch.full_like(pixels, torch.nan)}
    small = {**every[1].pixels[0], "pixels": pixels[..., :8]}
    words = torch.arange(4, 304)
    return {
        "the scores of the next token are nan or infinite": replace(every[1], pixels=(nan,)),
        "found 300 and 20": EncodedSample(key="", index=0, input_ids=words, labels=None, images=(), pixels=()),
        "expected images of 32 x 32": replace(every[2], pixels=(small,)),
        "<image> tokens in the text": replace(every[3], images=(), pixels=(), images_end=0),
        "IndexError": replace(every[4], input_ids=every[4].input_ids + 10_000, images=(), pixels=(), images_end=0),
    }


def test_a_bad_request_fails_alone(llava: Any, answers: list[list[int]]) -> None:
    every = samples(llava)
    settings = Sampling(max_new_tokens=20)
    bad = broken(every)
    with running(llava, max_rows=8, max_tokens=3000) as engine:
        engine._max_tokens, together = 310, engine._max_tokens
        one = Asked(engine, bad["found 300 and 20"], settings)
        assert "found 300 and 20" in str(one.wait().error)
        engine._max_tokens = together
        asked = [Asked(engine, each, settings) for each in every[:10]]
        failing = {said: Asked(engine, each, settings) for said, each in bad.items() if "found 300" not in said}
        asked += [Asked(engine, each, settings) for each in every[10:]]
        [each.wait() for each in asked]
        ends = {said: each.wait() for said, each in failing.items()}
    assert [each.ids for each in asked] == answers
    assert {end.reason for end in ends.values()} == {"error"}
    assert [said for said, end in ends.items() if said not in str(end.error)] == []
    assert all(each.tokens == [] for each in failing.values())


def test_questions_about_an_image_share_its_reading(llava: Any, answers: list[list[int]]) -> None:
    every = samples(llava)[:9]
    keys = [prefix_key(by_content(each)) for each in every]
    assert keys == [keys[n % 3] for n in range(9)]
    assert len(set(keys)) == 3
    expected = [ids[:4] for ids in answers[:9]]
    with running(llava) as engine:
        first = Asked(engine, every[0], SHORT)
        first.wait()
        size = engine.stats().prefix_bytes
        asked = [first, *(Asked(engine, each, SHORT) for each in every[1:])]
        [each.wait() for each in asked[1:]]
        assert [each.ids for each in asked] == expected
        stats = engine.stats()
        assert (stats.prefixes, stats.prefix_reads, stats.prefix_hits) == (3, 3, 6)
        assert stats.prefix_bytes == 3 * size
    with running(llava, prefix_cache_bytes=2 * size) as engine:
        for each, ids in zip(every, expected, strict=True):
            asked = [Asked(engine, each, SHORT)]
            asked[0].wait()
            assert asked[0].ids == ids
        stats = engine.stats()
        assert (stats.prefixes, stats.prefix_reads, stats.prefix_hits) == (2, 9, 0), "the oldest makes room"
        assert stats.prefix_bytes == 2 * size


def test_closing_answers_what_was_taken_and_then_cancels(llava: Any) -> None:
    every = samples(llava)[:3]
    with running(llava, max_rows=1) as engine:
        asked = [Asked(engine, each, SHORT) for each in every]
        engine.close(drain_s=60)
        assert {each.wait().reason for each in asked} <= {"stop", "length"}
        with pytest.raises(Closed, match="shutting down"):
            engine.submit(every[0], SHORT, print)
    with running(llava, max_rows=1) as engine:
        engine._ends.ids = set()
        asked = [Asked(engine, each, LONG, lambda: time.sleep(0.01)) for each in every]
        asked[0].first.wait(60)
        engine.close(drain_s=0.2)
        assert [each.wait().reason for each in asked] == ["cancelled"] * 3
        assert 0 < len(asked[0].tokens) < 400
        assert asked[2].tokens == []


def no_memory(*_: Any, **__: Any) -> Any:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")


def test_steps_that_lack_memory_go_on_with_fewer_rows(llava: Any, answers: list[list[int]]) -> None:
    """Where more than three rows are decoded at once."""
    every = samples(llava)[:10]
    expected = [ids[:16] for ids in answers[:10]]
    sampled = replace(SAMPLED, max_new_tokens=16)
    with running(llava) as engine:
        drawn = Asked(engine, every[0], sampled)
        drawn.wait()
        layers = llava.model.language_model.model.layers

        def check(module: Any, inputs: Any) -> None:
            if inputs[0].shape[0] > 3 and inputs[0].shape[1] == 1:
                no_memory()

        hook = layers[1].register_forward_pre_hook(check)  # the first has taken the token already
        asked = [Asked(engine, each, Sampling(max_new_tokens=16)) for each in every]
        asked.append(Asked(engine, every[0], sampled))
        ends = [each.wait() for each in asked]
        hook.remove()
        stats = engine.stats()
    assert [each.ids for each in asked] == [*expected, drawn.ids]
    assert {end.reason for end in ends} <= {"stop", "length"}
    assert stats.set_back > 0


def test_a_request_that_lacks_memory_fails_alone(
    llava: Any, answers: list[list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    every = samples(llava)[:6]
    expected = [ids[:9] for ids in answers[:6]]
    own = llava.model.read_prefixes

    def read(**batch: Any) -> Any:
        return no_memory() if (batch["pixels"] == 77).any() else own(**batch)

    monkeypatch.setattr(llava.model, "read_prefixes", read)
    heavy = {**every[0].pixels[0], "pixels": torch.full_like(every[0].pixels[0]["pixels"], 77)}
    with running(llava) as engine:
        asked = [Asked(engine, each, Sampling(max_new_tokens=9)) for each in every[:3]]
        bad = Asked(engine, replace(every[0], pixels=(heavy,)), SHORT)
        asked += [Asked(engine, each, Sampling(max_new_tokens=9)) for each in every[3:]]
        assert [each.wait().reason == "error" for each in asked] == [False] * 6
        end = bad.wait()
        assert engine.stats().alive
    assert str(end.error) == "memory ran out: CUDA out of memory. Tried to allocate 2.00 GiB"
    assert [each.ids for each in asked] == expected


def test_rows_that_a_join_interrupts_are_begun_again(llava: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    every = samples(llava)[:2]
    expected = [alone(llava, each, set(), max_new_tokens=30) for each in every]
    own, calls = PreallocatedCacheLayer.add_rows, []

    def add_rows(self: Any, *arguments: Any) -> None:
        calls.append(self)
        return no_memory() if len(calls) == 2 else own(self, *arguments)  # the first layer has them already

    monkeypatch.setattr(PreallocatedCacheLayer, "add_rows", add_rows)
    with running(llava) as engine:
        engine._ends.ids = set()
        first = Asked(engine, every[0], Sampling(max_new_tokens=30), lambda: time.sleep(0.005))
        first.first.wait(60)
        second = Asked(engine, every[1], Sampling(max_new_tokens=30))
        assert [first.wait().reason, second.wait().reason] == ["length", "length"]
        assert engine.stats().set_back == 1
    assert [first.ids, second.ids] == expected


def test_requests_wait_where_their_tokens_have_no_room(llava: Any) -> None:
    every = samples(llava)[:6]
    rows: list[int] = []
    settings = Sampling(max_new_tokens=10)
    longest = max(len(each.input_ids) for each in every)
    hook = llava.model.language_model.model.register_forward_hook(lambda *given: rows.append(len(given[2][0])))
    with running(llava, max_tokens=2 * (longest + 10)) as engine:
        asked = [Asked(engine, each, settings) for each in every]
        [each.wait() for each in asked]
    hook.remove()
    assert max(rows) == 2


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_an_engine_that_ends_says_so_to_all(llava: Any) -> None:
    every = samples(llava)[:3]

    def break_down() -> None:
        raise AttributeError("a bug")

    with running(llava, max_rows=2) as engine:
        asked = [Asked(engine, each, LONG) for each in every]
        asked[0].on_token = break_down
        ends = [each.wait() for each in asked]
        engine._thread.join(60)
        assert {str(end.error) for end in ends} == {"the engine has ended: AttributeError: a bug"}
        assert not engine.stats().alive
        with pytest.raises(Closed, match="the engine has ended: AttributeError: a bug"):
            engine.submit(every[0], SHORT, print)


def test_a_listener_that_nobody_reads_ends_its_request(llava: Any) -> None:
    first, second = samples(llava)[:2]

    def gone() -> None:
        raise RuntimeError("Event loop is closed")

    with running(llava, max_rows=1) as engine:
        engine._ends.ids = set()
        assert Asked(engine, first, LONG, gone).wait().reason == "cancelled"
        assert Asked(engine, second, SHORT).wait().reason == "length"


def test_texts_end_answers_and_log_probabilities_are_given(llava: Any) -> None:
    sample = samples(llava)[1]
    tokenizer = llava.processor.tokenizer
    with running(llava) as engine:
        engine._ends.ids = set()
        free = Asked(engine, sample, Sampling(max_new_tokens=12, logprobs=3))
        free.wait()
        said = tokenizer.decode(free.ids)
        text = tokenizer.decode(free.ids[3:5])
        ended = Asked(engine, sample, Sampling(max_new_tokens=12, stop=("nor this", text)))
        assert ended.wait().reason == "stop"
        assert text in said
        assert tokenizer.decode(ended.ids).endswith(text)
        assert all(token.logprob is None and token.top == () for token in ended.tokens)
        drawn = Asked(engine, sample, replace(SAMPLED, logprobs=0))
        drawn.wait()
    assert len(ended.ids) <= 5
    batch: dict[str, Any] = dict(Collator(pad_token_id=0)([sample]))
    del batch["index"]
    ids = torch.cat([sample.input_ids, torch.tensor(free.ids)])[None]
    batch |= {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    expected = llava.model(**batch).logits[0, len(sample.input_ids) - 1 : -1].log_softmax(-1).detach()
    for token, log_probs in zip(free.tokens, expected, strict=True):
        assert token.top[0][0] == token.id
        assert [value for _, value in token.top] == pytest.approx(log_probs.topk(3).values.tolist(), abs=1e-4)
        assert token.logprob == pytest.approx(float(log_probs[token.id]), abs=1e-4)
    assert drawn.tokens[0].top == ()
    assert drawn.tokens[0].logprob == pytest.approx(float(expected[0, drawn.ids[0]]), abs=1e-4)
