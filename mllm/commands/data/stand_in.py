"""A processor that stands in for a config's where its model is not at hand. Nothing here imports PyTorch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mllm.conversation.preprocessing.image_preprocessor import SquarePreprocessor
from mllm.conversation.processor import Processor
from mllm.conversation.tokenizer_training import blank_tokenizer
from mllm.errors import ModelError
from mllm.models.prompt_format import PROMPT_FORMAT_KEYS, PromptFormat, chosen_prompt_format
from mllm.registry import CODECS, TEMPLATES
from mllm.types import IMAGE

SIDE, TOKENS = 336, 576
"""Of CLIP ViT-L/14 at 336 pixels, the encoder of LLaVA-1.5: Liu et al. 2023."""
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
"""CLIP's, Radford et al. 2021: of red, green and blue from 0 to 1."""


def make_stand_in(model_args: Mapping[str, Any], data: Mapping[str, Any]) -> Processor:
    """The config's codec and template, with a token for each byte and a square view of images."""
    prompt_format = _asked(model_args)
    codec, template = CODECS.make(prompt_format.codec), TEMPLATES.make(prompt_format.template)
    tokenizer = blank_tokenizer()
    tokenizer.add_tokens(
        [*dict.fromkeys((IMAGE, *template.tokens, *prompt_format.tokens, *codec.tokens))], special_tokens=True
    )
    view = SquarePreprocessor(
        size=SIDE,
        mean=MEAN,
        std=STD,
        tokens=TOKENS,
        placement=prompt_format.placement or "pad",
    )
    return Processor(
        tokenizer=tokenizer,
        template=template,
        codec=codec,
        view=view,
        max_length=data.get("max_length"),
        image_numbers=prompt_format.image_numbers,
    )


def _asked(model_args: Mapping[str, Any]) -> PromptFormat:
    """How the model is spoken to, as far as it is known without its folder."""
    try:
        if "type" in model_args:
            return chosen_prompt_format(model_args)
    except ModelError:
        pass  # the type asks its folder, which is not there
    return PromptFormat(**{name: model_args[name] for name in PROMPT_FORMAT_KEYS if model_args.get(name) is not None})
