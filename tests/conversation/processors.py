"""Processors of squares with few tokens."""

from __future__ import annotations

from typing import Any

from transformers import PreTrainedTokenizerFast

from mllm.conversation.preprocessing.image_preprocessor import SquarePreprocessor
from mllm.conversation.processor import Processor
from mllm.registry import CODECS, TEMPLATES

SIDE, TOKENS = 28, 4


def make_processor(tokenizer: PreTrainedTokenizerFast, **changes: Any) -> Processor:
    codec = CODECS.make(changes.pop("codec", "shikra"))
    template = TEMPLATES.make(changes.pop("template", "vicuna_v1"))
    placement = changes.pop("placement", "pad")
    mean = std = (0.5, 0.5, 0.5)
    view = SquarePreprocessor(size=SIDE, mean=mean, std=std, tokens=TOKENS, placement=placement)
    tokenizer.add_tokens([*template.tokens, *codec.tokens], special_tokens=True)
    return Processor(
        tokenizer=tokenizer,
        template=template,
        codec=codec,
        view=changes.pop("view", view),
        **changes,
    )
