"""The tokenizer's own chat template (ChatML, Llama 3, ...), whatever it is."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from transformers import PreTrainedTokenizerBase

from mllm.conversation.rendering import Piece, Said
from mllm.errors import ConfigError
from mllm.registry import TEMPLATES

MARK = re.compile("\ue000(\\d+)\ue001")
ROLES = {"human": "user", "gpt": "assistant"}


@TEMPLATES.register_module("chat")
class Chat:
    """Renders once with a mark in place of every turn's words, then puts the words back: supervised spans are exact.

    Supervised: an answer and the text up to and including the first special token after it. `system` adds a system
    message; `variables` are handed to the template (for instance `dict(enable_thinking=False)`).
    """

    tokens: tuple[str, ...] = ()

    def __init__(self, *, system: str | None = None, variables: dict[str, Any] | None = None) -> None:
        self.system = system
        self.variables = dict(variables or {})

    def end(self, tokenizer: PreTrainedTokenizerBase) -> str:
        text = self._text(["human", "gpt"], tokenizer)
        return self._split_end(MARK.split(text)[-1], tokenizer)[0]

    def render(self, turns: Sequence[Said], tokenizer: PreTrainedTokenizerBase) -> list[Piece]:
        roles = [turn.role for turn in turns]
        # an odd number of parts: control text, number of a turn, control text, ...
        parts = MARK.split(self._text(roles, tokenizer))
        if [int(number) for number in parts[1::2]] != list(range(len(turns))):
            raise ConfigError(f"the tokenizer's chat template drops or reorders turns: {parts}")
        if roles[-1] == "gpt":
            self._check_prompt(roles, "".join(parts[:-2]), tokenizer)
        pieces = [Piece(parts[0])]
        for turn, control in zip(turns, parts[2::2], strict=True):
            if turn.role == "human":
                pieces += [*turn.pieces, Piece(control)]
            else:
                end, rest = self._split_end(control, tokenizer)
                pieces += [*(replace(piece, supervised=True) for piece in turn.pieces), Piece(end, True), Piece(rest)]
        return pieces

    def _text(self, roles: Sequence[str], tokenizer: PreTrainedTokenizerBase) -> str:
        untyped: Any = tokenizer
        if not untyped.chat_template:
            raise ConfigError("template 'chat': this tokenizer has no chat template; name another template")
        messages = [{"role": ROLES[role], "content": f"\ue000{n}\ue001"} for n, role in enumerate(roles)]
        if self.system is not None:
            messages.insert(0, {"role": "system", "content": self.system})
        text = untyped.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=roles[-1] == "human", **self.variables
        )
        assert isinstance(text, str)
        return text

    def _check_prompt(self, roles: Sequence[str], trained: str, tokenizer: PreTrainedTokenizerBase) -> None:
        """The words before an answer must be the same in training and in generation."""
        asked = "".join(MARK.split(self._text(roles[:-1], tokenizer)))
        if asked != trained:
            raise ConfigError(
                f"the tokenizer's chat template opens an answer with {trained[-80:]!r} in training but with "
                f"{asked[-80:]!r} in generation; set the template's `variables` so that both agree"
            )

    def _split_end(self, control: str, tokenizer: PreTrainedTokenizerBase) -> tuple[str, str]:
        """The end token of an answer, and the control text after it."""
        stops = [control.index(token) + len(token) for token in _special(tokenizer) if token in control]
        if not stops:
            raise ConfigError(f"no special token ends an answer in the tokenizer's chat template: {control!r}")
        return control[: min(stops)], control[min(stops) :]


def _special(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    return [token.content for token in tokenizer.added_tokens_decoder.values() if token.special]
