"""`{image}<s>{question} {answer}</s>`: BLIP-2 and InstructBLIP, which know one question and its answer."""

from __future__ import annotations

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

from mllm.conversation.rendering import RenderedTurn, TextSpan, answer, end_of_sequence, images_first, opening
from mllm.errors import ConfigError
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
        if [turn.role for turn in turns] not in (["human"], ["human", "gpt"]):
            raise ConfigError(
                field="template 'blip2'", expected="one question and its answer", found=f"{len(turns)} turns"
            )
        images, words = images_first(turns[0])
        if (count := sum(not image.lead for image in images)) > 1:
            raise ConfigError(field="template 'blip2'", expected="one image", found=str(count))
        pieces = [*images, *opening(tokenizer), *words]
        return pieces + (answer(turns[1], before=" ", end=self.end(tokenizer)) if len(turns) == 2 else [])
