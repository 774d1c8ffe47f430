"""Phrases of regions, and texts without coordinates."""

from __future__ import annotations

import pytest

from mllm.serve.phrases import Form, phrase_before, phrase_behind, without_forms


@pytest.mark.parametrize(
    ("words", "phrase"),
    [
        ("The dog ", "The dog"),
        ("The woman is next to a small dog ", "a small dog"),
        ("The dog is located at ", "The dog"),
        ("red car and ", "red car"),
        ("Answer: ", None),
        ("The answer is ", None),
        ("", None),
        ("It is at ", None),
        ("cat", "cat"),
        ("I can see. Two big old cats", "Two big old cats"),
        ("a man, his hat ", "his hat"),
    ],
)
def test_phrase_before_is_the_last_noun_phrase(words: str, phrase: str | None) -> None:
    text = f"{words}[0.1,0.2,0.3,0.4]"
    span = phrase_before(text, 0, len(words))
    assert (span and text[slice(*span)]) == phrase


def test_phrase_before_begins_behind_what_stood_before() -> None:
    text = "the dog [..] cat [..]"
    assert phrase_before(text, text.index("]") + 1, text.rindex("[")) == (13, 16)


def test_phrase_behind_ends_at_a_semicolon() -> None:
    text = "<loc> a big cat ; <loc> dog"
    assert phrase_behind(text, 5, len(text)) == (6, 15)
    assert phrase_behind(text, text.rindex(">") + 1, len(text)) == (24, 27)
    assert phrase_behind("<loc> ", 5, 6) is None


def forms(text: str, *written: tuple[str, str | None]) -> list[Form]:
    spans = [(text.index(form), text.index(form) + len(form)) for form, _ in written]
    phrases = [phrase and (text.index(phrase), text.index(phrase) + len(phrase)) for _, phrase in written]
    return [Form(span=s, phrase=p or None, readable=True) for s, p in zip(spans, phrases, strict=True)]


def test_without_forms_keeps_phrases_and_maps_them() -> None:
    text = "The dog [1,2] is left of a cat [3,4]."
    plain, spans = without_forms(text, forms(text, ("[1,2]", "The dog"), ("[3,4]", "a cat")), None)
    assert plain == "The dog is left of a cat."
    assert [plain[slice(*span)] for span in spans] == ["The dog", "a cat"]


def test_without_forms_keeps_a_phrase_inside_its_form_and_drops_marks() -> None:
    text = "<ref>the dog</ref><box>(1,2)</box> and <ref>sky</ref> [5,6]"
    found = forms(text, ("<ref>the dog</ref><box>(1,2)</box>", "the dog"), ("[5,6]", None))
    plain, spans = without_forms(text, found, ("<ref>", "</ref>"))
    assert plain == "the dog and sky"
    assert [plain[slice(*span)] for span in spans] == ["the dog", ""]


def test_without_forms_leaves_what_cannot_be_read() -> None:
    text = "dog [1,x]"
    plain, spans = without_forms(text, [Form(span=(4, 9), phrase=(0, 3), readable=False)], None)
    assert (plain, spans) == (text, [(0, 3)])
