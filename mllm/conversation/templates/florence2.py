"""`{image}<s>{prompt}</s>` for the encoder, `<s>{answer}</s>` for the decoder: Florence-2, which knows one question."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from transformers import PreTrainedTokenizerBase

from mllm.conversation.rendering import (
    RenderedTurn,
    TextSpan,
    answer_of_round,
    beginning_of_sequence,
    check_one_image,
    check_one_round,
    end_of_sequence,
    images_first,
)
from mllm.errors import ConfigError
from mllm.registry import TEMPLATES

ALONE = {
    "<OCR>": "What is the text in the image?",
    "<OCR_WITH_REGION>": "What is the text in the image, with regions?",
    "<CAPTION>": "What does the image describe?",
    "<DETAILED_CAPTION>": "Describe in detail what is shown in the image.",
    "<MORE_DETAILED_CAPTION>": "Describe with a paragraph what is shown in the image.",
    "<OD>": "Locate the objects with category name in the image.",
    "<DENSE_REGION_CAPTION>": "Locate the objects in the image, with their descriptions.",
    "<REGION_PROPOSAL>": "Locate the region proposals in the image.",
}
"""The prompts of tasks that ask about the image alone."""
AROUND = {
    "<CAPTION_TO_PHRASE_GROUNDING>": ("Locate the phrases in the caption: ", ""),
    "<REFERRING_EXPRESSION_SEGMENTATION>": ("Locate ", " in the image with mask"),
    "<REGION_TO_SEGMENTATION>": ("What is the polygon mask of region ", ""),
    "<OPEN_VOCABULARY_DETECTION>": ("Locate ", " in the image."),
    "<REGION_TO_CATEGORY>": ("What is the region ", "?"),
    "<REGION_TO_DESCRIPTION>": ("What does the region ", " describe?"),
    "<REGION_TO_OCR>": ("What text is in the region ", "?"),
}
"""What stands before and behind the words of tasks that ask about a phrase or a region."""
TASK = re.compile(r"<[A-Z_]+>")


@TEMPLATES.register_module("florence2")
class Florence2:
    """Florence-2's prompt: the image comes first, wherever the question has it; a task token at the beginning of the
    question, such as `<OD>`, stands for the prompt of that task.

    Source: Xiao et al. 2023 (arXiv 2311.06242); transformers' Florence2Processor, which has the prompts.
    """

    tokens: tuple[str, ...] = ()

    def end(self, tokenizer: PreTrainedTokenizerBase) -> str:
        return end_of_sequence(tokenizer)

    def render(self, turns: Sequence[RenderedTurn], tokenizer: PreTrainedTokenizerBase) -> list[TextSpan]:
        check_one_round(turns, "florence2")
        images, words = images_first(turns[0])
        check_one_image(images, "florence2")
        begin, end = beginning_of_sequence(tokenizer), self.end(tokenizer)
        pieces = [*images, TextSpan(begin), *_prompt(words), TextSpan(end)]
        return pieces + answer_of_round(turns, before=begin, end=end)


def _prompt(words: list[TextSpan]) -> list[TextSpan]:
    task = TASK.match(words[0].text) if words else None
    if task is None or task[0] not in {**ALONE, **AROUND}:
        return words
    rest = [replace(words[0], text=words[0].text[task.end() :].lstrip()), *words[1:]]
    if task[0] in AROUND:
        before, behind = AROUND[task[0]]
        return [TextSpan(before), *rest, TextSpan(behind)]
    if any(span.text for span in rest):
        said = "".join(span.text for span in rest)
        raise ConfigError(field="template 'florence2'", expected=f"nothing behind {task[0]}", found=repr(said))
    return [TextSpan(ALONE[task[0]])]
