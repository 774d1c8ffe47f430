"""`<image>Output:{caption}<|endofchunk|>`: OpenFlamingo's prompts for captions, and with a question for answers."""

from __future__ import annotations

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

from mllm.conversation.rendering import Piece, Said, answer, end_of_sequence, opening, pictures_first
from mllm.errors import ConfigError
from mllm.registry import TEMPLATES

END, QUESTION = "<|endofchunk|>", "{question}"


@TEMPLATES.register_module("openflamingo")
class OpenFlamingo:
    """Supervised: answers through `<|endofchunk|>`, and the end of the sequence. Pictures stand first in their turn.

    Args:
        prompt: what stands between pictures and answer; `{question}` in it becomes the words of the turn, which are
            left out otherwise. OpenFlamingo's are "Output:" for captions and classes, "Question:{question} Short
            answer:" for questions, "" in its pretraining.

    Source: OpenFlamingo's evaluation prompts and its pretraining on LAION.
    """

    tokens: tuple[str, ...] = (END,)

    def __init__(self, *, prompt: str = "Output:") -> None:
        if prompt.count(QUESTION) > 1:
            raise ConfigError(f"template 'openflamingo': prompt: expected {QUESTION} once at most, found {prompt!r}")
        self.prompt = prompt

    def end(self, tokenizer: PreTrainedTokenizerBase) -> str:
        return END

    def render(self, turns: Sequence[Said], tokenizer: PreTrainedTokenizerBase) -> list[Piece]:
        before, asks, after = self.prompt.partition(QUESTION)
        pieces = opening(tokenizer)
        for turn in turns:
            if turn.role == "human":
                slots, words = pictures_first(turn)
                pieces += [*slots, Piece(before), *(words if asks else ()), Piece(after)]
            else:
                pieces += answer(turn, end=END)
        if turns[-1].role == "gpt":
            pieces.append(Piece(end_of_sequence(tokenizer), supervised=True))
        return pieces
