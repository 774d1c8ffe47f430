"""`<image>User:{question} GPT:<answer>{answer}<|endofchunk|>`: Otter, and OpenFlamingo trained in its format."""

from __future__ import annotations

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

from mllm.conversation.rendering import RenderedTurn, TextSpan, answer, end_of_sequence, images_first, opening
from mllm.registry import TEMPLATES

END, ANSWER = "<|endofchunk|>", "<answer>"


@TEMPLATES.register_module("otter")
class Otter:
    """Otter's format, `<image>User:{question} GPT:<answer>{answer}<|endofchunk|>`.

    Supervised: what follows `<answer>` through `<|endofchunk|>`, and the end of the sequence.
    Source: Otter's MIMIC-IT training format.
    """

    tokens: tuple[str, ...] = (END, ANSWER)

    def end(self, tokenizer: PreTrainedTokenizerBase) -> str:
        return END

    def render(self, turns: Sequence[RenderedTurn], tokenizer: PreTrainedTokenizerBase) -> list[TextSpan]:
        pieces = opening(tokenizer)
        for turn in turns:
            if turn.role == "human":
                slots, words = images_first(turn)
                pieces += [*slots, TextSpan("User:"), *words, TextSpan(f" GPT:{ANSWER}")]
            else:
                pieces += answer(turn, end=END)
        if turns[-1].role == "gpt":
            pieces.append(TextSpan(end_of_sequence(tokenizer), supervised=True))
        return pieces
