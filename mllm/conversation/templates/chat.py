"""The tokenizer's own chat template (ChatML, Llama 3, ...), whatever it is."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import count
from typing import Any

from transformers import PreTrainedTokenizerBase

from mllm.conversation.rendering import Piece, Said
from mllm.errors import ConfigError
from mllm.registry import TEMPLATES
from mllm.types import IMAGE

MARK = re.compile("\ue000(\\d+)\ue001")
ROLES = {"human": "user", "gpt": "assistant"}
PICTURE = (Piece(IMAGE),)


@TEMPLATES.register_module("chat")
class Chat:
    """Renders once with a mark in place of words, then puts the words back: supervised spans are exact.

    Supervised: an answer and the text up to and including the first special token after it. `system` adds a system
    message; `variables` are handed to the template (for instance `dict(enable_thinking=False)`).

    `parts`: contents are lists of pictures and texts, and the template writes what stands for a picture, as those of
    multimodal models do; a line break after `<image>` is then left to it. Default: where the template speaks of images.
    """

    tokens: tuple[str, ...] = ()

    def __init__(
        self, *, system: str | None = None, variables: dict[str, Any] | None = None, parts: bool | None = None
    ) -> None:
        self.system = system
        self.variables = dict(variables or {})
        self.parts = parts
        self._known: dict[tuple[str, str], str] = {}

    def end(self, tokenizer: PreTrainedTokenizerBase) -> str:
        text = self._text([Said("human", (Piece(""),)), Said("gpt", (Piece(""),))], tokenizer)
        return self._split_end(MARK.split(text)[-1], tokenizer)[0]

    def render(self, turns: Sequence[Said], tokenizer: PreTrainedTokenizerBase) -> list[Piece]:
        # an odd number of parts: control text, number of a stretch of words, control text, ...
        parts = MARK.split(self._text(turns, tokenizer))
        stretches = [
            (turn.role, stretch)
            for turn in turns
            for stretch in self._contents(turn, tokenizer)
            if stretch is not PICTURE
        ]
        if [int(number) for number in parts[1::2]] != list(range(len(stretches))):
            raise ConfigError(f"the tokenizer's chat template drops or reorders turns: {parts}")
        space = self._space(turns, "".join(parts[:-2]), tokenizer) if turns[-1].role == "gpt" else ""
        pieces = [Piece(parts[0])]
        for (role, stretch), control in zip(stretches, parts[2::2], strict=True):
            if role == "human":
                pieces += [*stretch, Piece(control)]
            else:
                if space and pieces[-1].text.endswith(space):
                    pieces[-1] = replace(pieces[-1], text=pieces[-1].text.removesuffix(space))
                    pieces.append(Piece(space, True))
                end, rest = self._split_end(control, tokenizer)
                pieces += [*(replace(piece, supervised=True) for piece in stretch), Piece(end, True), Piece(rest)]
        return pieces

    def _contents(self, turn: Said, tokenizer: PreTrainedTokenizerBase) -> list[tuple[Piece, ...]]:
        """A turn as stretches of words, and where the template takes parts, PICTURE between them."""
        if not self._takes_parts(tokenizer):
            return [turn.pieces]
        contents: list[tuple[Piece, ...]] = []
        for piece in turn.pieces:
            if piece.text == IMAGE and not piece.literal:
                contents.append(PICTURE)
                continue
            if not contents:
                contents.append((piece,))
            elif contents[-1] is not PICTURE:
                contents[-1] = (*contents[-1], piece)
            elif text := piece.text.removeprefix("\n"):
                contents.append((replace(piece, text=text),))
        return contents or [turn.pieces]

    def _takes_parts(self, tokenizer: PreTrainedTokenizerBase) -> bool:
        untyped: Any = tokenizer
        return "image" in str(untyped.chat_template) if self.parts is None else self.parts

    def _text(self, turns: Sequence[Said], tokenizer: PreTrainedTokenizerBase) -> str:
        untyped: Any = tokenizer
        if not untyped.chat_template:
            raise ConfigError("template 'chat': this tokenizer has no chat template; name another template")
        numbers = count()
        messages: list[dict[str, Any]] = []
        for turn in turns:
            parts = [
                {"type": "image"} if stretch is PICTURE else {"type": "text", "text": f"\ue000{next(numbers)}\ue001"}
                for stretch in self._contents(turn, tokenizer)
            ]
            content = parts if self._takes_parts(tokenizer) else parts[0]["text"]
            messages.append({"role": ROLES[turn.role], "content": content})
        if self.system is not None:
            system = [{"type": "text", "text": self.system}] if self._takes_parts(tokenizer) else self.system
            messages.insert(0, {"role": "system", "content": system})
        # words are marks here: conversations of one shape render alike
        key = untyped.chat_template, repr(messages)
        if key not in self._known:
            self._known[key] = untyped.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=turns[-1].role == "human", **self.variables
            )
        return self._known[key]

    def _space(self, turns: Sequence[Said], trained: str, tokenizer: PreTrainedTokenizerBase) -> str:
        """The words before an answer must be the same in training and in generation, but for a space that it says."""
        asked = "".join(MARK.split(self._text(turns[:-1], tokenizer)))
        space = trained.removeprefix(asked)
        if not trained.startswith(asked) or space.strip():
            raise ConfigError(
                f"the tokenizer's chat template opens an answer with {trained[-80:]!r} in training but with "
                f"{asked[-80:]!r} in generation; set the template's `variables` so that both agree"
            )
        return space

    def _split_end(self, control: str, tokenizer: PreTrainedTokenizerBase) -> tuple[str, str]:
        """The end token of an answer, and the control text after it."""
        stops = [control.index(token) + len(token) for token in _special(tokenizer) if token in control]
        if not stops:
            raise ConfigError(f"no special token ends an answer in the tokenizer's chat template: {control!r}")
        return control[: min(stops)], control[min(stops) :]


def _special(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    return [token.content for token in tokenizer.added_tokens_decoder.values() if token.special]
