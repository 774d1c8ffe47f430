"""An engine around a tiny model, what it is asked, and what the model answers alone."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import torch
from PIL import Image

from mllm.conversation.collator import Collator
from mllm.records import read_item
from mllm.serve.engine import Engine
from mllm.serve.request import Finished
from mllm.serve.sampling import NewToken, Sampling
from mllm.types import EncodedSample, Item

ENDS = set(range(6, 400, 12))
"""One in twelve tokens ends an answer, so that some do early and others never."""
DEVICE = torch.device("cpu")
SHORT, LONG = Sampling(max_new_tokens=4), Sampling(max_new_tokens=400)


def photo(number: int, side: int = 40) -> Image.Image:
    pixels = torch.randint(0, 256, (side, side, 3), generator=torch.Generator().manual_seed(number), dtype=torch.uint8)
    return Image.fromarray(pixels.numpy())


def item(question: str, *images: Image.Image) -> Item:
    turn = {"from": "human", "value": "<image>" * len(images) + "\n" + question}
    return read_item({"images": list(images), "conversations": [turn]}, key=question)


def questions() -> list[Item]:
    """Twenty: with one of three images, two images, none, and one with nothing behind its image."""
    found = [item("where is the " + "red blue " * n + "circle?", photo(n % 3)) for n in range(10)]
    found += [item("which? " + "left " * n, photo(n), photo(5)) for n in range(4)]
    found += [item("what is the " + "green triangle " * n) for n in range(5)]
    return [*found, item("", photo(1))]


def ready(model: Any, processor: Any) -> Any:
    """Its answers end at `ENDS` alone."""
    processor.end_token_id = None
    processor.stop = "never said"
    return SimpleNamespace(model=model.eval(), processor=processor)


def samples(one: Any, items: list[Item] | None = None) -> list[EncodedSample]:
    return [one.processor.encode(each, 0, answer=False) for each in items or questions()]


def alone(one: Any, sample: EncodedSample, ends: set[int], **generation: Any) -> list[int]:
    """What the model itself generates."""
    batch: dict[str, Any] = dict(Collator(pad_token_id=one.processor.tokenizer.pad_token_id)([sample]))
    del batch["index"]
    settings = dict(do_sample=False, num_beams=1, eos_token_id=sorted(ends) or None, **generation)
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
