"""Parity with Stanford's tokenizer: what it made of captions, stored, and where Java is, again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mllm.metrics.ptb import tokenize

CASES = json.loads((Path(__file__).parent / "ptb_java.json").read_text(encoding="utf-8"))["captions"]


def test_tokenize_gives_the_stored_tokens_of_java() -> None:
    captions = [caption for caption, _ in CASES]
    assert list(zip(captions, tokenize(captions), strict=True)) == [(caption, tokens) for caption, tokens in CASES]


@pytest.mark.parametrize(
    ("caption", "tokens"),
    [
        # the first two are of pycocoevalcap's stored run
        (
            "A yellow bus, on the street (near a man's house).",
            "a yellow bus on the street -lrb- near a man 's house -rrb-",
        ),
        ("It's 5 o'clock -- \"go\"!", "it 's 5 o'clock go"),
        ("I can't, cannot and won't", "i ca n't can not and wo n't"),
        ("a two-story house", "a two-story house"),
        ("$1,000.50 or 20%", "$ 1,000.50 or 20 %"),
        ("the U.S. flag at 5 p.m.", "the u.s. flag at 5 p.m."),
        ("No. 5, no. Five", "no. 5 no five"),
        ("\u201cit\u2019s\u201d caf\u00e9\u2026", "it 's caf\u00e9"),
        ("what?! wow!!! ok!", "what ?! wow !!! ok"),
        ("\U0001f600 smiles", "smiles"),
        ("", ""),
        (" \t\n ", ""),
    ],
)
def test_tokenize_a_caption(caption: str, tokens: str) -> None:
    assert tokenize([caption]) == [tokens]


def test_tokenize_sees_the_end_of_a_sentence_by_the_next_caption() -> None:
    assert tokenize(["plan B.", "The end."]) == ["plan b", "the end"]
    assert tokenize(["plan B.", "the end."]) == ["plan b.", "the end"]


def test_tokenize_keeps_a_caption_with_line_breaks_one() -> None:
    assert tokenize(["a\nb\u2028c\r\nd", "e"]) == ["a b c d", "e"]
