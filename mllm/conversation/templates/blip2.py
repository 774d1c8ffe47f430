"""`{image}<s>{question} {answer}</s>`: BLIP-2 and InstructBLIP, which know one question and its answer."""

from __future__ import annotations

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

from mllm.conversation.rendering import (
    RenderedTurn,
    TextSpan,
    answer_of_round,
    check_one_image,
    check_one_round,
    end_of_sequence,
    images_first,
    opening,
)
from mllm.registry import TEMPLATES


@TEMPLATES.register_module("blip2")
class Blip2:
    """BLIP-2's and InstructBLIP's prompt: the image comes first, wherever the question has it.

    The prompts of its training, such as `Question: {question} Answer:`, are a matter of the question templates.
    Source: Li et al. 2023 (arXiv 2301.12597), section 4; transformers' Blip2Processor.
    """

    tokens: tuple[str, ...] = ()

    def end(self, tokenizer: PreTrainedTokenizerBase) -> str:
        return end_of_sequence(tokenizer)

    def render(self, turns: Sequence[RenderedTurn], tokenizer: PreTrainedTokenizerBase) -> list[TextSpan]:
        check_one_round(turns, "blip2")
        images, words = images_first(turns[0])
        check_one_image(images, "blip2")
        pieces = [*images, *opening(tokenizer), *words]
        return pieces + answer_of_round(turns, before=" ", end=self.end(tokenizer))
