"""Rendered conversations as text."""

from __future__ import annotations

from mllm.conversation.rendering import TextSpan


def marked(pieces: list[TextSpan]) -> str:
    """The rendered text with supervised spans between « and »."""
    text = "".join(f"«{piece.text}»" if piece.supervised and piece.text else piece.text for piece in pieces)
    return text
