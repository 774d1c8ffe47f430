"""How a processor is asked what it makes of an image."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image

from mllm.errors import ModelError
from mllm.models.native.family import generic
from mllm.models.native.view import ProcessorView
from tests.models.tiny import make_tokenizer


class Processor:
    """Of a family that has a few tokens for each image, and takes it in one kind of text."""

    image_token = "<image>"
    image_token_ids = (4,)

    def __init__(self, takes: str) -> None:
        self.takes = takes
        self.tokenizer: Any = make_tokenizer()
        self.tokenizer.chat_template = "USER: <image>{{ messages | length }}"
        self.image_token_id = self.tokenizer.convert_tokens_to_ids("<image>")

    def __call__(self, *, images: list[Image.Image], text: list[str], **_: Any) -> dict[str, Any]:
        marks = text[0].count("<image>")
        if self.takes == "itself" and marks:
            raise ValueError("one image and two marks")
        if self.takes == "chat" and not text[0].startswith("USER: <image>"):
            raise ValueError("the image needs its user")
        if self.takes == "never":
            raise TypeError("transpose() takes 2 arguments")
        if self.takes == "one more":
            marks = 2 + marks
        made: dict[str, Any] = {"input_ids": torch.tensor([[self.image_token_id] * max(marks, 2)])}
        offsets = {"text_replacement_offsets": [[{"replacement": "<image><image>"}]]}
        return {"pixel_values": torch.zeros(1, 3, 4, 4), **made, **(offsets if self.takes == "chat" else {})}


def view_of(processor: Any) -> ProcessorView:
    return ProcessorView(family=generic(), config=SimpleNamespace(), processor=processor, image_processor=None)


@pytest.mark.parametrize(("takes", "asked"), [("itself", ""), ("one more", ""), ("chat", "USER: <image>1")])
def test_a_processor_is_asked_in_the_text_that_it_takes(takes: str, asked: str) -> None:
    view = view_of(Processor(takes))
    assert view.asked == asked
    assert view.placeholder_tokens((8, 8)) == "<image><image>"


def test_one_that_takes_no_image_says_so() -> None:
    with pytest.raises(ModelError, match=r"^Processor fails on an image, .*: transpose\(\) takes 2 arguments$"):
        view_of(Processor("never"))
    with pytest.raises(ModelError, match="SimpleNamespace marks no place for an image in the text"):
        view_of(SimpleNamespace())
