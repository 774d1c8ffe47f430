"""`<image>Output:{caption}<|endofchunk|>`: OpenFlamingo's prompts for captions, and with a question for answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from transformers import PreTrainedTokenizerBase

from mllm.conversation.rendering import RenderedTurn, TextSpan, answer, end_of_sequence, images_first, opening
from mllm.fields import Fits
from mllm.registry import TEMPLATES

END, QUESTION = "<|endofchunk|>", "{question}"


Prompt = Annotated[str, Fits(f"a text with {QUESTION} in it once at most", lambda text: text.count(QUESTION) < 2)]


@TEMPLATES.register_module("openflamingo")
class OpenFlamingo:
    """OpenFlamingo's format: images come first in their turn, `<|endofchunk|>` ends an answer.

    Supervised: answers through `<|endofchunk|>`, and the end of the sequence.

    Args:
        prompt: what stands between images and answer; `{question}` in it becomes the words of the turn, which are
            left out otherwise. OpenFlamingo's are "Output:" for captions and classes, "Question:{question} Short
            answer:" for questions, "" in its pretraining.
        separator: stands before every question but the first; a line break in OpenFlamingo's evaluation of captions and
            of answers to questions.

    Source: OpenFlamingo's evaluation prompts and its pretraining on LAION.
    """

    tokens: tuple[str, ...] = (END,)

    def __init__(self, *, prompt: Prompt = "Output:", separator: str = "") -> None:
        self.prompt = prompt
        self.separator = separator

    def end(self, tokenizer: PreTrainedTokenizerBase) -> str:
        return END

    def render(self, turns: Sequence[RenderedTurn], tokenizer: PreTrainedTokenizerBase) -> list[TextSpan]:
        before, asks, after = self.prompt.partition(QUESTION)
        pieces = opening(tokenizer)
        for number, turn in enumerate(turns):
            if turn.role == "human":
                slots, words = images_first(turn)
                pieces += [
                    TextSpan(self.separator if number else ""),
                    *slots,
                    TextSpan(before),
                    *(words if asks else ()),
                    TextSpan(after),
                ]
            else:
                pieces += answer(turn, end=END)
        if turns[-1].role == "gpt":
            pieces.append(TextSpan(end_of_sequence(tokenizer), supervised=True))
        return pieces
