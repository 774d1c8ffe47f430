"""Settings of generation, and answers in pieces."""

from __future__ import annotations

import re
import threading
from pathlib import Path
from typing import Any

import pytest

from mllm.errors import ConfigError
from mllm.serve.chat_model import ChatModel, load
from mllm.serve.generation import read_generation


@pytest.fixture(scope="module")
def model(trained: Path) -> ChatModel:
    return load(trained, device="cpu")


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"temprature": 1.0}, "temprature: unknown name; did you mean 'temperature'"),
        ({"temperature": 0.7}, "generation.temperature has no effect: it needs do_sample=True"),
        ({"temperature": "hot", "do_sample": True}, "generation.temperature: expected a number"),
        ({"max_new_tokens": 0}, "generation.max_new_tokens: expected a whole number of at least 1"),
        ({"seed": "x"}, "generation.seed: expected a whole number"),
        ({"stop": 3}, "generation.stop: expected a text, or a list of texts, found int '3'"),
        ({"stop": ["a", ""]}, "generation.stop: expected a text, or a list of texts"),
    ],
)
def test_read_generation_names_what_is_wrong(given: dict[str, Any], error: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(error)):
        read_generation(given)


def test_read_generation_takes_one_stop_text_or_several() -> None:
    assert read_generation({"stop": "END", "seed": 3, "top_p": None}).stop == ("END",)
    assert read_generation({"stop": ["a", "b"]}).stop == ("a", "b")


def test_a_sampled_answer_follows_from_its_seed(model: ChatModel, photo: Path) -> None:
    def sampled(seed: int) -> str:
        return model.chat(photo, "Where?", do_sample=True, temperature=5.0, seed=seed, max_new_tokens=12).text

    assert sampled(1) == sampled(1)
    assert len({sampled(seed) for seed in range(4)}) > 1


def test_an_answer_ends_at_a_stop_text(model: ChatModel, photo: Path) -> None:
    settings: dict[str, Any] = dict(do_sample=True, temperature=5.0, seed=1)
    whole = model.chat(photo, "Where?", max_new_tokens=30, **settings)
    assert whole.finish_reason == "length"
    stop = whole.text[8:11]
    place = whole.text.index(stop)
    cut = model.chat(photo, "Where?", max_new_tokens=30, stop=stop, **settings)
    assert (cut.text, cut.finish_reason) == (whole.text[:place].strip(), "stop")
    assert cut.tokens < whole.tokens


def test_beams_come_as_one_piece(model: ChatModel, photo: Path) -> None:
    whole = model.chat(photo, "Where?", num_beams=2, max_new_tokens=6)
    stream = model.chat(photo, "Where?", num_beams=2, max_new_tokens=6, stream=True)
    assert stream.answer == whole


def test_a_stream_that_is_stopped_gives_what_there_is(model: ChatModel, photo: Path) -> None:
    stream = model.chat(photo, "Where?", max_new_tokens=400, do_sample=True, temperature=9.0, stream=True)
    next(stream)
    stream.stop()
    answer = stream.answer
    assert answer.tokens < 400
    assert answer.finish_reason == "cancelled"
    assert list(stream) == []
    assert model.chat(photo, "Where?", max_new_tokens=2).tokens  # the model is free again


def test_leaving_a_stream_ends_it(model: ChatModel, photo: Path) -> None:
    with model.chat(photo, "Where?", max_new_tokens=400, do_sample=True, temperature=9.0, stream=True) as stream:
        next(stream)
    assert stream.answer.finish_reason == "cancelled"


def test_two_threads_are_answered_one_after_the_other(model: ChatModel, photo: Path) -> None:
    alone = model.chat(photo, "Where is it?", max_new_tokens=20)
    found: list[Any] = []
    threads = [
        threading.Thread(target=lambda: found.append(model.chat(photo, "Where is it?", max_new_tokens=20)))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [alone] * 3
