"""`<image>{answer}\\n`: image and caption, nothing else: LLaVA's first stage, which aligns the connector."""

from __future__ import annotations

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

from mllm.conversation.rendering import RenderedTurn, TextSpan, answer, images_first, opening
from mllm.registry import TEMPLATES


@TEMPLATES.register_module("plain")
class Plain:
    """Image and caption alone, for pretraining: of a question only the images are kept.

    Source: LLaVA's conversation `plain`.
    """

    tokens: tuple[str, ...] = ()

    def end(self, tokenizer: PreTrainedTokenizerBase) -> str:
        return "\n"

    def render(self, turns: Sequence[RenderedTurn], tokenizer: PreTrainedTokenizerBase) -> list[TextSpan]:
        pieces = opening(tokenizer)
        for turn in turns:
            if turn.role == "human":
                pieces += images_first(turn)[0]
            else:
                pieces += answer(turn, end=self.end(tokenizer))
        return pieces
