"""`{question}</s>` for the encoder, `{answer}</s>` for the decoder: T5 and other encoder-decoder models."""

from __future__ import annotations

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

from mllm.conversation.rendering import RenderedTurn, TextSpan, answer, end_of_sequence, opening
from mllm.registry import TEMPLATES


@TEMPLATES.register_module("seq2seq")
class Seq2Seq:
    """For encoder-decoder models: the encoder reads all turns before the last answer, one per line.

    Only the last answer is supervised.
    """

    tokens: tuple[str, ...] = ()

    def end(self, tokenizer: PreTrainedTokenizerBase) -> str:
        return end_of_sequence(tokenizer)

    def render(self, turns: Sequence[RenderedTurn], tokenizer: PreTrainedTokenizerBase) -> list[TextSpan]:
        end = self.end(tokenizer)
        read = turns[:-1] if turns[-1].role == "gpt" else turns
        pieces = opening(tokenizer)
        for number, turn in enumerate(read, start=1):
            pieces += [*turn.pieces, TextSpan("\n" if number < len(read) else end)]
        return [*pieces, *answer(turns[-1], end=end)] if turns[-1].role == "gpt" else pieces
