"""`{image}<bos>{prompt}\\n{answer}<eos>`: PaliGemma, which knows one question and its answer."""

from __future__ import annotations

from collections.abc import Sequence

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
from mllm.registry import TEMPLATES


@TEMPLATES.register_module("paligemma")
class PaliGemma:
    """PaliGemma's prompt: images come first, and white space around the question is removed.

    The prompts of its training, such as `detect {phrase}`, are a matter of the question templates.
    Source: Beyer et al. 2024 (arXiv 2407.07726), section 3; transformers' PaliGemmaProcessor.
    """

    tokens: tuple[str, ...] = ()

    def end(self, tokenizer: PreTrainedTokenizerBase) -> str:
        return end_of_sequence(tokenizer)

    def render(self, turns: Sequence[RenderedTurn], tokenizer: PreTrainedTokenizerBase) -> list[TextSpan]:
        check_one_round(turns, "paligemma")
        images, words = images_first(turns[0])
        pieces = [*images, TextSpan(beginning_of_sequence(tokenizer)), *words, TextSpan("\n")]
        return pieces + answer_of_round(turns, end=self.end(tokenizer))
