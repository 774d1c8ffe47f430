"""Words before a question and before an answer, as the config gives them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from transformers import PreTrainedTokenizerBase

from mllm.conversation.rendering import RenderedTurn, TextSpan, answer, end_of_sequence, opening
from mllm.fields import Fits
from mllm.registry import TEMPLATES

NonEmptyText = Annotated[str, Fits("some words", lambda text: bool(text.strip()))]
Signs = Annotated[str, Fits("at least one sign", bool)]


@TEMPLATES.register_module("instruction")
class Instruction:
    """`{system}{instruction}question{response}answer{end}`, and again after `separator`.

    Only answers and their ends are supervised.

    Args:
        instruction: what stands before a question, such as "### Instruction:\\n".
        response: what stands between it and the answer, such as "\\n\\n### Response:\\n".
        system: what stands first, once.
        separator: what stands before every question but the first.
        end: what ends an answer; default: the tokenizer's end of sequence.

    Without words before an answer, or with an empty end, nothing would tell question and answer apart.
    """

    tokens: tuple[str, ...] = ()

    def __init__(
        self,
        *,
        instruction: str,
        response: NonEmptyText,
        system: str = "",
        separator: str = "",
        end: Signs | None = None,
    ) -> None:
        self.instruction = instruction
        self.response = response
        self.system = system
        self.separator = separator
        self.ending = end

    def end(self, tokenizer: PreTrainedTokenizerBase) -> str:
        return self.ending or end_of_sequence(tokenizer)

    def render(self, turns: Sequence[RenderedTurn], tokenizer: PreTrainedTokenizerBase) -> list[TextSpan]:
        pieces = [*opening(tokenizer), TextSpan(self.system)]
        for number, turn in enumerate(turns):
            if turn.role == "human":
                before = f"{self.separator if number else ''}{self.instruction}"
                pieces += [TextSpan(before), *turn.pieces, TextSpan(self.response)]
            else:
                pieces += answer(turn, end=self.end(tokenizer))
        return pieces
