"""Requests that run together are answered as each is alone, and none harms the others."""

from __future__ import annotations

import queue
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image

from mllm.conversation.collator import Collator
from mllm.errors import ModelError
from mllm.models.runtime.kv_cache import PreallocatedCacheLayer
from mllm.serve import engine as engine_module
from mllm.serve.engine import Engine
from mllm.serve.request import Closed, Finished, QueueFull, prefix_key
from mllm.serve.sampling import NewToken, Sampling
from mllm.types import EncodedSample, Item
from tests.models.tiny_hf import build as build_hf
from tests.models.tiny_hf import save_tiny
from tests.pipeline.packed import LANGUAGE_MODELS, build

DEVICE = torch.device("cpu")
SHORT, LONG = Sampling(max_new_tokens=4), Sampling(max_new_tokens=400)


def photo(number: int, side: int = 40) -> Image.Image:
    pixels = torch.randint(0, 256, (side, side, 3), generator=torch.Generator().manual_seed(number), dtype=torch.uint8)
    return Image.fromarray(pixels.numpy())


def item(question: str, *images: Image.Image) -> Item:
    turn = {"from": "human", "value": "<image>" * len(images) + "\n" + question}
    return Item.from_dict({"images": list(images), "conversations": [turn]}, key=question)


def questions() -> list[Item]:
    """Twenty: with one of three images, two images, none, and one with nothing behind its image."""
    found = [item("where is the " + "red blue " * n + "circle?", photo(n % 3)) for n in range(10)]
    found += [item("which? " + "left " * n, photo(n), photo(5)) for n in range(4)]
    found += [item("what is the " + "green triangle " * n) for n in range(5)]
    return [*found, item("", photo(1))]


@pytest.fixture(scope="module")
def llava() -> Any:
    return ready(*build(language_model={**LANGUAGE_MODELS["llama"], "initializer_range": 0.3})[:0:-1])


def ready(model: Any, processor: Any) -> Any:
    """One in twelve tokens ends an answer, so that some do early and others never."""
    processor.end_token_id = None
    processor.stop = "\x00"
    return SimpleNamespace(model=model.eval(), processor=processor)


def samples(one: Any, items: list[Item] | None = None) -> list[EncodedSample]:
    return [one.processor.encode(each, 0, answer=False) for each in items or questions()]


def alone(one: Any, sample: EncodedSample, ends: set[int], **generation: Any) -> list[int]:
    """What the model itself generates."""
    batch: dict[str, Any] = dict(Collator(pad_token_id=one.processor.tokenizer.pad_token_id)([sample]))
    del batch["index"]
    settings = dict(do_sample=False, num_beams=1, repetition_penalty=1.0, eos_token_id=sorted(ends), **generation)
    return one.model.generate(**batch, **settings, pad_token_id=one.processor.tokenizer.pad_token_id)[0].tolist()


class Asked:
    """What the listener of a request was given."""

    def __init__(self, engine: Engine, sample: EncodedSample, sampling: Sampling, on_token: Any = None) -> None:
        self.news: queue.Queue[NewToken | Finished] = queue.Queue()
        self.tokens: list[NewToken] = []
        self.on_token = on_token
        self.first = threading.Event()
        self.ticket = engine.submit(sample, sampling, self.listen)

    def listen(self, news: NewToken | Finished) -> None:
        self.news.put(news)
        self.first.set()
        if self.on_token and isinstance(news, NewToken):
            self.on_token()

    def wait(self) -> Finished:
        while isinstance(news := self.news.get(timeout=60), NewToken):
            self.tokens.append(news)
        assert self.news.empty(), "nothing comes behind the end"
        return news

    @property
    def ids(self) -> list[int]:
        return [token.id for token in self.tokens]


@contextmanager
def running(one: Any, **limits: Any) -> Iterator[Engine]:
    engine = Engine(one.model, one.processor, DEVICE, **limits)
    engine._ends.ids = ENDS
    try:
        yield engine
    finally:
        engine.close(drain_s=0)
        assert not engine.stats().alive


ENDS = set(range(6, 400, 12))


def test_requests_that_join_at_odd_times_are_answered_as_alone(llava: Any) -> None:
    every = samples(llava)
    limits = [3 + 5 * n % 17 for n in range(len(every))]
    expected = [alone(llava, each, ENDS, max_new_tokens=most) for each, most in zip(every, limits, strict=True)]
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


@pytest.mark.parametrize("way", ["joined", "together", "alone"])
@pytest.mark.parametrize("family", ["qwen2_vl", "internvl", "smolvlm", "paligemma"])
def test_models_of_transformers_answer_as_alone(family: str, way: str, tmp_path: Path, monkeypatch: Any) -> None:
    if family == "paligemma" and way == "joined":
        pytest.skip("it reads prompts whole")
    one = ready(*build_hf(str(save_tiny(family, tmp_path))))
    if way != "joined":
        monkeypatch.setattr(engine_module, "way_of", lambda model: (way, "as this test wants"))
    items = [item("where is the " + "red " * n + "circle?", photo(n % 2, 20 + 20 * (n % 2))) for n in range(4)]
    items += [item("what is it? " + "left " * n) for n in range(0 if family == "paligemma" else 2)]
    every = samples(one, items)
    expected = [alone(one, each, ENDS, max_new_tokens=9) for each in every]
    with running(one, max_rows=4) as engine:
        asked = [Asked(engine, each, Sampling(max_new_tokens=9)) for each in every]
        asked[2].first.wait(60)
        again = [Asked(engine, each, Sampling(max_new_tokens=9)) for each in every[::-1]]
        assert {each.wait().reason for each in (*asked, *again)} <= {"stop", "length"}
        assert engine.stats().way == way
        assert engine.stats().prefix_reads == (2 if way == "joined" else 0)
    assert [each.ids for each in asked] == expected
    assert [each.ids for each in again] == expected[::-1]
