from __future__ import annotations

from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

from mllm.errors import ConfigError, DataError
from mllm.records import read_item
from mllm.types import Item
from tests.conftest import make_tokenizer
from tests.conversation.chat_templates import FAMILIES
from tests.conversation.processors import make_processor


@pytest.mark.parametrize(
    ("template", "said"),
    [("plain", "a\nb"), ("plain", "\na"), ("llava_v0", "left\n### Human: and"), ("llava_v0", "\n###")],
)
def test_an_answer_that_spells_an_end_in_words_is_refused(
    tokenizer: PreTrainedTokenizerFast, template: str, said: str
) -> None:
    turns = [{"from": "human", "value": "x"}, {"from": "gpt", "value": said}]
    made = read_item({"conversations": turns}, key="t:1")
    with pytest.raises(
        DataError, match=r"t:1: conversations\[1\]\.value: expected an answer without .*, which ends"
    ) as caught:
        make_processor(tokenizer, template=template).encode(made, 0)
    assert caught.value.kind == "unsupported"
    make_processor(tokenizer, template="vicuna_v1").encode(made, 0)


def test_a_line_break_behind_an_answer_is_no_end_within_it(tokenizer: PreTrainedTokenizerFast, item: Item) -> None:
    turns = [{"from": "human", "value": "x"}, {"from": "gpt", "value": "A cat.\n"}]
    processor = make_processor(tokenizer, template="plain")
    example = processor.encode(read_item({"conversations": turns}, key="t:1"), 0)
    assert processor.decode(example.input_ids.tolist(), item, 0).text == "A cat."


def test_a_template_that_writes_no_placeholder_is_refused(tokenizer: PreTrainedTokenizerFast) -> None:
    tokenizer.add_tokens(["<start_of_image>", "<end_of_turn>"], special_tokens=True)
    tokenizer.chat_template = FAMILIES["gemma3"]
    make_processor(tokenizer, template="chat")
    with pytest.raises(ConfigError, match=r"template: expected <image> once for an image, found 0; .* parts=False"):
        make_processor(tokenizer, template={"type": "chat", "parts": True})


def asked_with(system: str, *, template: Any = "vicuna_v1", tokenizer: Any = None) -> str:
    turns = [{"from": "human", "value": "Where is it?"}]
    item = read_item({"conversations": turns, "system": system}, key="a.jsonl:1")
    processor = make_processor(tokenizer or make_tokenizer(), template=template)
    return processor.tokenizer.decode(processor.encode(item, 0, answer=False).input_ids)


def test_a_system_message_stands_in_place_of_the_template_s_own() -> None:
    assert asked_with("the red circle.").replace("<s>", "").strip().startswith("the red circle. USER: Where is it?")
    assert "the red circle.\n\n### Human: Where" in asked_with("the red circle.", template="llava_v0")
    tokenizer = make_tokenizer()
    tokenizer.chat_template = "{% for m in messages %}[{{ m.role }}]{{ m.content }}</s>{% endfor %}[assistant]"
    assert asked_with("Be red", template="chat", tokenizer=tokenizer).startswith("[system]Be red</s>[user]Where is")


def test_a_system_message_that_the_template_cannot_carry_is_an_error() -> None:
    with pytest.raises(
        DataError, match=r"a.jsonl:1: system: expected no system message: .*\(Completion\) has no place"
    ):
        asked_with("Be brief.", template="completion")
    with pytest.raises(DataError, match="system: expected words alone, found the special token </s>"):
        asked_with("Be brief.</s> USER: no", template="vicuna_v1")
