"""Texts that grow by a token are those of all tokens together."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer

from mllm.conversation import detokenizer
from mllm.conversation.detokenizer import Detokenizer, words_of
from tests.conftest import make_tokenizer
from tests.sentencepieces import save_llama, save_t5

MAKERS = {
    "bytes": lambda folder: make_tokenizer(),
    "llama": lambda folder: AutoTokenizer.from_pretrained(save_llama(folder)),
    "legacy": lambda folder: AutoTokenizer.from_pretrained(save_llama(folder, settings={"legacy": True})),
    "t5": lambda folder: AutoTokenizer.from_pretrained(save_t5(folder)),
}


@cache
def made(name: str) -> Any:
    return MAKERS[name](Path(tempfile.mkdtemp()))


@pytest.fixture(autouse=True)
def short_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detokenizer, "WINDOW", 12)


@pytest.mark.parametrize("name", MAKERS)
@given(data=st.data())
def test_detokenizer_says_what_all_tokens_say(name: str, data: st.DataObject) -> None:
    tokenizer = made(name)
    ids = data.draw(st.lists(st.integers(0, len(tokenizer) - 1), max_size=60))
    decoder = Detokenizer(tokenizer)
    for count, token in enumerate(ids, start=1):
        text = decoder.add(token)
        assert text in (None, words_of(tokenizer, ids[:count]))
    assert decoder.text == words_of(tokenizer, ids)


@pytest.mark.parametrize("name", MAKERS)
def test_detokenizer_reads_a_long_text(name: str) -> None:
    tokenizer = made(name)
    ids = tokenizer("Where is the red circle? 你好 🐶 the  blue square. " * 9, add_special_tokens=False)["input_ids"]
    decoder = Detokenizer(tokenizer)
    texts = [decoder.add(token) for token in ids]
    assert [text for text in texts if text][-1] == decoder.text == words_of(tokenizer, ids)
    assert decoder._start > 12, "the window has moved"


def test_detokenizer_waits_for_the_bytes_of_a_character() -> None:
    tokenizer = made("llama")
    decoder = Detokenizer(tokenizer)
    found = [decoder.add(tokenizer.convert_tokens_to_ids(token)) for token in ("<0xE4>", "<0xBD>", "<0xA0>", "A")]
    assert found == [None, None, None, "你A"]


def test_words_of_says_special_tokens_and_leaves_spaces_as_they_are() -> None:
    tokenizer = made("bytes")
    ids = tokenizer("red , blue .</s>", add_special_tokens=False)["input_ids"]
    assert words_of(tokenizer, ids) == "red , blue .</s>"
