"""Turns -> pieces of text -> token ids and labels, in one act: labels cannot drift from the text.

A template arranges pieces; `tokenize` reads their text and labels every token by the piece it lies in.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from mllm.conversation.text_encoder import Start, encoder_of
from mllm.errors import ConfigError
from mllm.fields import show
from mllm.types import BOXES, IMAGE, POINTS, SPANS, Role, Turn

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PLACEHOLDER = re.compile(f"({IMAGE}|{BOXES}|{POINTS}|{SPANS})")
Write = Callable[[str, Sequence[int]], str]
"""(placeholder, the numbers of a group's regions) -> the text of the group."""
IGNORE = -100
"""The label of a token that is not supervised (PyTorch's cross entropy skips it)."""


@dataclass(frozen=True, slots=True)
class TextSpan:
    """A piece of rendered text."""

    text: str
    supervised: bool = False
    literal: bool = False
    """Words of a user: what looks like a special token in them is spelled out, not obeyed."""
    lead: bool = False
    """The name of the image that follows, from which it is not parted."""


@dataclass(frozen=True, slots=True)
class RenderedTurn:
    """A turn whose boxes are written out already."""

    role: Role
    pieces: tuple[TextSpan, ...]


class Template(Protocol):
    """Arranges a conversation for one family of language models. Templates live in `templates/`, one file each.

    Optional members: `with_system(system: str) -> Template`, the same with this system message in place of its own;
    `begun(tokenizer) -> str`, the part of an answer with which its prompt ends, such as `<think>`.
    """

    @property
    def tokens(self) -> tuple[str, ...]:
        """Special tokens that the vocabulary must hold."""
        ...

    def end(self, tokenizer: PreTrainedTokenizerBase) -> str:
        """What closes every answer: supervised in training, awaited in generation."""
        ...

    def render(self, turns: Sequence[RenderedTurn], tokenizer: PreTrainedTokenizerBase) -> list[TextSpan]:
        """All pieces in order. A last turn by `human` ends in the words that open the answer."""
        ...


def written_turn(turn: Turn, write: Write, none: str, leads: Iterator[str]) -> list[TextSpan]:
    """The pieces of a turn: words, image slots, and regions as the codec's text.

    Args:
        write: how groups are written.
        none: the text of an empty group.
        leads: what stands before each image of the conversation, as far as they have names; those of this turn's are
            taken.
    """
    groups = {placeholder: iter(seq) for placeholder, seq in turn.groups.items()}
    pieces: list[TextSpan] = []
    for part in PLACEHOLDER.split(turn.text):
        if part in groups:
            group = next(groups[part])
            pieces.append(TextSpan(write(part, group) if group else none))
        elif part == IMAGE:
            pieces += [TextSpan(lead, lead=True) for lead in [next(leads, "")] if lead]
            pieces.append(TextSpan(IMAGE))
        elif part:
            pieces.append(TextSpan(part, literal=True))
    return pieces


def opening(tokenizer: PreTrainedTokenizerBase) -> list[TextSpan]:
    """The beginning-of-sequence token, where the tokenizer itself would put one."""
    return [TextSpan(str(tokenizer.bos_token))] if encoder_of(tokenizer).adds_bos else []


def beginning_of_sequence(tokenizer: PreTrainedTokenizerBase) -> str:
    """The token that begins a text, for formats that cannot do without.

    Raises:
        ConfigError: the tokenizer has none.
    """
    return _named(tokenizer, "bos_token")


def end_of_sequence(tokenizer: PreTrainedTokenizerBase) -> str:
    """The token that ends a text.

    Raises:
        ConfigError: the tokenizer has none.
    """
    return _named(tokenizer, "eos_token")


def _named(tokenizer: PreTrainedTokenizerBase, name: str) -> str:
    token = getattr(tokenizer, name)
    if token is None:
        file = Path(tokenizer.name_or_path, "tokenizer_config.json")
        raise ConfigError(
            f"the tokenizer has no {name}, which the template needs",
            where=str(file),
            field=name,
            expected="a token",
            found=show(token),
        )
    return str(token)


def answer(turn: RenderedTurn, *, before: str = "", end: str) -> list[TextSpan]:
    """The pieces of a supervised turn, through its end token."""
    return [TextSpan(before, supervised=True), *(replace(p, supervised=True) for p in turn.pieces), TextSpan(end, True)]


def images_first(turn: RenderedTurn) -> tuple[list[TextSpan], list[TextSpan]]:
    """A turn's images with their names, and its words without white space around them: for formats that begin with
    images."""
    images = [piece for piece in turn.pieces if piece.lead or (piece.text == IMAGE and not piece.literal)]
    words = [piece for piece in turn.pieces if piece not in images]
    if words:
        words[0] = replace(words[0], text=words[0].text.lstrip())
        words[-1] = replace(words[-1], text=words[-1].text.rstrip())
    return images, words


def check_one_round(turns: Sequence[RenderedTurn], template: str) -> None:
    """
    Raises:
        ConfigError: there is more than one question, and perhaps its answer, which is all that this template writes.
    """
    if [turn.role for turn in turns] not in (["human"], ["human", "gpt"]):
        raise ConfigError(
            field=f"template {template!r}", expected="one question and its answer", found=f"{len(turns)} turns"
        )


def answer_of_round(turns: Sequence[RenderedTurn], *, before: str = "", end: str) -> list[TextSpan]:
    """The pieces of the answer of a single round; none where it is still to be written."""
    return answer(turns[1], before=before, end=end) if len(turns) == 2 else []


def check_one_image(images: Sequence[TextSpan], template: str) -> None:
    """
    Raises:
        ConfigError: there are more images than the one that this template writes.
    """
    if (count := sum(not image.lead for image in images)) > 1:
        raise ConfigError(field=f"template {template!r}", expected="one image", found=str(count))


def tokenize(
    pieces: Sequence[TextSpan],
    tokenizer: PreTrainedTokenizerBase,
    *,
    image: int | None = None,
    start: Start = "text",
) -> tuple[list[int], list[int]]:
    """Token ids and labels of the joined pieces; label = id where supervised, else IGNORE.

    `start`: where they begin, see `start_behind`.

    The text is read as `tokenizer(text)` reads it, with four provisos. It is cut where supervision begins and ends: a
    prompt then has the same ids alone and before its answer. A special token in a user's words is spelled out. The
    token at the beginning of the sequence is none of the text, whose first word follows. And the text behind an `image`
    token, which is given by its id, is a text of its own, as the first word is: LLaVA's code reads the parts between
    images one by one.
    """
    encoder = encoder_of(tokenizer)
    ids: list[int] = []
    labels: list[int] = []
    text, supervised = "", False

    def emit(new: list[int]) -> None:
        ids.extend(new)
        labels.extend(new if supervised else [IGNORE] * len(new))

    for piece in pieces:
        if text and piece.supervised != supervised:
            emit(encoder(text, start))
            text, start = "", "middle"
        supervised = piece.supervised if piece.text else supervised
        for words, token in [(piece.text, None)] if piece.literal else encoder.split(piece.text):
            text += words
            if token is None:
                continue
            if text:
                emit(encoder(text, start))
            begins = token == image or (not ids and token == encoder.bos)
            emit([token])
            text, start = "", "text" if begins else "special"
    if text:
        emit(encoder(text, start))
    return ids, labels


def start_behind(pieces: Sequence[TextSpan], tokenizer: PreTrainedTokenizerBase, *, image: int | None = None) -> Start:
    """Where pieces begin that are supervised otherwise than these, which they follow."""
    said = [piece for piece in pieces if piece.text]
    if not said or said[-1].literal:
        return "middle" if said else "text"
    encoder = encoder_of(tokenizer)
    found = [(words, token) for piece in said for words, token in encoder.split(piece.text)]
    if found[-1][0]:
        return "middle"
    token = found[-2][1]
    alone = not any(words for words, _ in found) and sum(each is not None for _, each in found) == 1
    return "text" if token == image or (alone and token == encoder.bos) else "special"
