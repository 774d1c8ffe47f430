"""Marks that images side by side share, and the space before a word."""

from __future__ import annotations

import pytest

from mllm.conversation.rendering import TextSpan
from mllm.models.native.arranging import arranged


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        ([TextSpan("User:<i>"), TextSpan("What?", literal=True)], "User:*<i>* What?"),
        ([TextSpan("<i>"), TextSpan("<i>"), TextSpan(" What?", literal=True)], "*<i>*<i>* What?"),
        ([TextSpan("<i>a<i><i><end>")], "*<i>* a*<i>*<i>*<end>"),
        ([TextSpan("Is it "), TextSpan("<i>", literal=True), TextSpan("?")], "Is it <i>?"),
    ],
)
def test_marks_stand_around_images_and_once_between_two(pieces: list[TextSpan], expected: str) -> None:
    found = arranged(pieces, "<i>", between="*", spaced=True)
    assert "".join(piece.text for piece in found) == expected
    assert "".join(piece.text for piece in arranged(pieces, "<i>", between="*", spaced=False)) == (
        expected.replace("* W", "*W").replace("* a", "*a") if " What" not in pieces[-1].text else expected
    )
