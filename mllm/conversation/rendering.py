"""Turns -> pieces of text -> token ids and labels, in one act: labels cannot drift from the text.

A template arranges pieces; `tokenize` reads their joined text once and labels every token by the piece it lies in.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import accumulate
from typing import TYPE_CHECKING, Protocol

from mllm.types import IMAGE, Role

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

IGNORE = -100
"""The label of a token that is not supervised (PyTorch's cross entropy skips it)."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of rendered text."""

    text: str
    supervised: bool = False
    literal: bool = False
    """Words of a user: what looks like a special token in them is spelled out, not obeyed."""


@dataclass(frozen=True, slots=True)
class Said:
    """A turn whose boxes are written out already."""

    role: Role
    pieces: tuple[Piece, ...]


class Template(Protocol):
    """Arranges a conversation for one family of language models. Templates live in `templates/`, one file each."""

    @property
    def tokens(self) -> tuple[str, ...]:
        """Special tokens that the vocabulary must hold."""
        ...

    def end(self, tokenizer: PreTrainedTokenizerBase) -> str:
        """What closes every answer: supervised in training, awaited in generation."""
        ...

    def render(self, turns: Sequence[Said], tokenizer: PreTrainedTokenizerBase) -> list[Piece]:
        """All pieces in order. A last turn by `human` ends in the words that open the answer."""
        ...


def opening(tokenizer: PreTrainedTokenizerBase) -> list[Piece]:
    """The beginning-of-sequence token, where the tokenizer itself would put one."""
    return [Piece(str(tokenizer.bos_token))] if _adds_bos(tokenizer) else []


def answer(turn: Said, *, before: str = "", end: str) -> list[Piece]:
    """The pieces of a supervised turn, through its end token."""
    return [Piece(before, supervised=True), *(replace(p, supervised=True) for p in turn.pieces), Piece(end, True)]


def pictures_first(turn: Said) -> tuple[list[Piece], list[Piece]]:
    """A turn's pictures, and its words without white space around them: for formats that begin with pictures."""
    pictures = [piece for piece in turn.pieces if piece.text == IMAGE and not piece.literal]
    words = [piece for piece in turn.pieces if piece not in pictures]
    if words:
        words[0] = replace(words[0], text=words[0].text.lstrip())
        words[-1] = replace(words[-1], text=words[-1].text.rstrip())
    return pictures, words


def tokenize(pieces: Sequence[Piece], tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], list[int]]:
    """Token ids and labels of the joined pieces; label = id where supervised, else IGNORE.

    The text is read as a whole, as the model met it in pretraining. Only where a token would reach over the border of
    a supervised stretch is the text cut there: a prompt then has the same ids alone and before its answer.
    """
    pieces = [piece for piece in pieces if piece.text]
    if not pieces:
        return [], []
    text = "".join(piece.text for piece in pieces)
    starts = [0, *accumulate(len(piece.text) for piece in pieces)][:-1]
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    special = _special_ids(tokenizer, len(tokenizer))
    ids: list[int] = []
    labels: list[int] = []
    for token, (start, stop) in zip(encoded["input_ids"], encoded["offset_mapping"], strict=True):
        first = bisect_right(starts, start) - 1
        last = bisect_right(starts, max(start, stop - 1)) - 1
        for number in range(first, last):
            if pieces[number].supervised != pieces[number + 1].supervised:
                head, tail = tokenize(pieces[: number + 1], tokenizer), tokenize(pieces[number + 1 :], tokenizer)
                return head[0] + tail[0], head[1] + tail[1]
        piece = pieces[first]
        if piece.literal and token in special:
            new = tokenizer(text[start:stop], add_special_tokens=False, split_special_tokens=True)["input_ids"]
        else:
            new = [token]
        ids += new
        labels += new if piece.supervised else [IGNORE] * len(new)
    return ids, labels


@lru_cache(maxsize=8)
def _adds_bos(tokenizer: PreTrainedTokenizerBase) -> bool:
    return tokenizer.bos_token is not None and tokenizer("a").input_ids[0] == tokenizer.bos_token_id


@lru_cache(maxsize=8)
def _special_ids(tokenizer: PreTrainedTokenizerBase, size: int) -> frozenset[int]:
    """`size` is that of the vocabulary: it changes when tokens are added."""
    added = tokenizer.added_tokens_decoder
    return frozenset(number for number, token in added.items() if token.special)
