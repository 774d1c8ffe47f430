"""`{question}{answer}</s>`: the words as they are, for models that continue a text, and zero-shot prompts."""

from __future__ import annotations

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

from mllm.conversation.rendering import RenderedTurn, TextSpan, answer, end_of_sequence, opening
from mllm.registry import TEMPLATES


@TEMPLATES.register_module("completion")
class Completion:
    """The texts of the turns alone: spaces and line breaks are those of the items."""

    tokens: tuple[str, ...] = ()

    def end(self, tokenizer: PreTrainedTokenizerBase) -> str:
        return end_of_sequence(tokenizer)

    def render(self, turns: Sequence[RenderedTurn], tokenizer: PreTrainedTokenizerBase) -> list[TextSpan]:
        pieces = opening(tokenizer)
        for turn in turns:
            pieces += turn.pieces if turn.role == "human" else answer(turn, end=self.end(tokenizer))
        return pieces
