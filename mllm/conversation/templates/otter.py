"""`<image>User:{question} GPT:<answer>{answer}<|endofchunk|>`: Otter, and OpenFlamingo trained in its format."""

from __future__ import annotations

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

from mllm.conversation.rendering import Piece, Said, answer, opening
from mllm.registry import TEMPLATES
from mllm.types import IMAGE

END, ANSWER = "<|endofchunk|>", "<answer>"


@TEMPLATES.register_module("otter")
class Otter:
    """Supervised: what follows `<answer>` through `<|endofchunk|>`, and the end of the sequence.

    Pictures stand before `User:`. Source: Otter's MIMIC-IT training format.
    """

    tokens: tuple[str, ...] = (END, ANSWER)

    def end(self, tokenizer: PreTrainedTokenizerBase) -> str:
        return END

    def render(self, turns: Sequence[Said], tokenizer: PreTrainedTokenizerBase) -> list[Piece]:
        pieces = opening(tokenizer)
        for turn in turns:
            if turn.role == "human":
                slots = [piece for piece in turn.pieces if piece.text == IMAGE and not piece.literal]
                words = [piece for piece in turn.pieces if piece not in slots]
                pieces += [*slots, Piece("User:"), *_stripped(words), Piece(f" GPT:{ANSWER}")]
            else:
                pieces += answer(turn, end=END)
        if turns[-1].role == "gpt":
            pieces.append(Piece(str(tokenizer.eos_token), supervised=True))
        return pieces


def _stripped(words: Sequence[Piece]) -> list[Piece]:
    """The words without the line break that parted them from the picture."""
    if not words:
        return []
    first, *rest = words
    return [Piece(first.text.lstrip("\n"), first.supervised, first.literal), *rest]
