"""`{image}<bos>{prompt}\\n{answer}<eos>`: PaliGemma, which knows one question and its answer."""

from __future__ import annotations

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

from mllm.conversation.rendering import (
    RenderedTurn,
    TextSpan,
    answer,
    beginning_of_sequence,
    end_of_sequence,
    images_first,
)
from mllm.errors import ConfigError
from mllm.registry import TEMPLATES


@TEMPLATES.register_module("paligemma")
class PaliGemma:
    """Images come first, wherever the question has them; white space around the question is left out.

    The prompts of its training, such as `detect {phrase}`, are a matter of the question templates.
    Source: Beyer et al. 2024 (arXiv 2407.07726), section 3; transformers' PaliGemmaProcessor.
    """

    tokens: tuple[str, ...] = ()

    def end(self, tokenizer: PreTrainedTokenizerBase) -> str:
        return end_of_sequence(tokenizer)

    def render(self, turns: Sequence[RenderedTurn], tokenizer: PreTrainedTokenizerBase) -> list[TextSpan]:
        if [turn.role for turn in turns] not in (["human"], ["human", "gpt"]):
            raise ConfigError(
                field="template 'paligemma'", expected="one question and its answer", found=f"{len(turns)} turns"
            )
        images, words = images_first(turns[0])
        pieces = [*images, TextSpan(beginning_of_sequence(tokenizer)), *words, TextSpan("\n")]
        return pieces + (answer(turns[1], end=self.end(tokenizer)) if len(turns) == 2 else [])
