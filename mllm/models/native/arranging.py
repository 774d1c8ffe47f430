"""What processors write beside images that one image alone does not tell: marks that neighbours share, and a space."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

from mllm.conversation.rendering import TextSpan


def arranged(pieces: Sequence[TextSpan], token: str, *, between: str, spaced: bool) -> list[TextSpan]:
    """Rendered pieces with a mark before and behind each image, and one between images side by side.

    Args:
        token: stands for an image.
        between: the mark.
        spaced: whether a space parts the mark from a word right behind it.
    """
    found: list[TextSpan] = []
    open_ = False
    for piece in _images_apart(pieces, token):
        if piece.text == token and not piece.literal:
            found += [piece] if open_ else [TextSpan(between), piece]
            found.append(TextSpan(between))
            open_ = True
        else:
            if open_ and spaced and re.match(r"[^\s<]", piece.text):
                found.append(TextSpan(" "))
            found.append(piece)
            open_ = False
    return found


def _images_apart(pieces: Sequence[TextSpan], token: str) -> Iterator[TextSpan]:
    """The pieces that say something, with each image a piece of its own."""
    for piece in pieces:
        parts = [piece.text] if piece.literal else re.split(f"({re.escape(token)})", piece.text)
        yield from (replace(piece, text=part) for part in parts if part)
