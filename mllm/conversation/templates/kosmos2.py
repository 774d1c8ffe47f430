"""`<s>{image} <grounding><phrase> {words}</phrase>{answer}</s>`: Kosmos-2, which goes on with a phrase's boxes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from transformers import PreTrainedTokenizerBase

from mllm.conversation.rendering import (
    RenderedTurn,
    TextSpan,
    answer_of_round,
    beginning_of_sequence,
    check_one_round,
    end_of_sequence,
    images_first,
)
from mllm.fields import OneOf
from mllm.registry import TEMPLATES

FORMS = {
    "phrase": ("<grounding><phrase> ", "</phrase>"),
    "question": ("<grounding> Question: ", " Answer:"),
    "words": ("<grounding> ", ""),
}


@TEMPLATES.register_module("kosmos2")
class Kosmos2:
    """Kosmos-2's prompt, one question and its answer: images come first, white space around the question is removed.

    `form`: "phrase" stands for an expression alone, whose boxes follow; "question" for a question in words; "words" is
    continued as it is.
    Source: Peng et al. 2023 (arXiv 2306.14824), section 4.1; the model card of microsoft/kosmos-2-patch14-224.
    """

    tokens: tuple[str, ...] = ()

    def __init__(self, *, form: Annotated[str, OneOf(tuple(FORMS))] = "phrase") -> None:
        self.before, self.after = FORMS[form]

    def end(self, tokenizer: PreTrainedTokenizerBase) -> str:
        return end_of_sequence(tokenizer)

    def render(self, turns: Sequence[RenderedTurn], tokenizer: PreTrainedTokenizerBase) -> list[TextSpan]:
        check_one_round(turns, "kosmos2")
        images, words = images_first(turns[0])
        space = [TextSpan(" ")] if images else []
        pieces = [
            TextSpan(beginning_of_sequence(tokenizer)),
            *images,
            *space,
            TextSpan(self.before),
            *words,
            TextSpan(self.after),
        ]
        return pieces + answer_of_round(turns, end=self.end(tokenizer))
