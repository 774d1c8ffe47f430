from __future__ import annotations

import pytest
from transformers import PreTrainedTokenizerFast

from mllm.conversation.preprocessing.image_preprocessor import SquarePreprocessor
from mllm.conversation.processor import Processor
from mllm.errors import ModelError
from mllm.registry import TEMPLATES
from mllm.types import Item
from tests.conversation.processors import SIDE, TOKENS, make_processor


def test_an_image_holds_as_many_tokens_as_the_model_has_features(processor: Processor, item: Item) -> None:
    example = processor.encode(item, 3)
    assert (example.input_ids == processor.image_token_id).sum() == TOKENS
    assert example.index == 3
    assert [image["pixels"].shape for image in example.pixels] == [(1, 3, SIDE, SIDE)]


class Framed(SquarePreprocessor):
    token = feature = "<patch>"

    def placeholder_tokens(self, size: tuple[int, int]) -> str:
        return f"<im_start>{self.token * (size[0] // 20)}<im_end>"


def test_a_view_says_what_holds_the_place_of_an_image(tokenizer: PreTrainedTokenizerFast, item: Item) -> None:
    tokenizer.add_tokens(["<im_start>", "<patch>", "<im_end>"], special_tokens=True)
    view = Framed(size=SIDE, mean=(0.5,) * 3, std=(0.5,) * 3, tokens=1)
    example = make_processor(tokenizer, view=view).encode(item, 0)
    text = tokenizer.decode(example.input_ids).replace(" ", "")
    assert "<im_start><patch><patch><im_end>" in text
    assert "<image>" not in text


def test_a_template_that_loses_an_image_is_an_error(processor: Processor, item: Item) -> None:
    template = TEMPLATES.make("vicuna_v1")
    dropping = template.render
    processor.renderer.template = template
    template.render = lambda turns, tokenizer: [  # type: ignore[method-assign]
        piece for piece in dropping(turns, tokenizer) if piece.text != "<image>"
    ]
    with pytest.raises(ModelError, match=r"template: expected 1 <image>, .* found 0"):
        processor.encode(item, 0)
