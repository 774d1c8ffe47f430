from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

from mllm.conversation.item_renderer import KNOWN_SYSTEMS, ItemRenderer
from mllm.conversation.preprocessing.image_preprocessor import NoView, SquarePreprocessor
from mllm.errors import ConfigError, DataError
from mllm.records import read_item
from mllm.tokenizer_files import load_tokenizer
from mllm.types import Item, Turn
from tests.conftest import make_tokenizer
from tests.conversation.chat_templates import FAMILIES
from tests.conversation.processors import make_processor
from tests.conversation.rendered import marked
from tests.sentencepieces import save_t5


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


def test_an_end_that_the_tokenizer_drops_is_refused(tmp_path: Path) -> None:
    """T5's has no line breaks: answers would be trained without an end."""
    for template, end in (
        ("plain", r"'\\n', of which it makes ''"),
        ("llava_v0", r"'\\n###', of which it makes ' ###'"),
    ):
        tokenizer: Any = load_tokenizer(save_t5(tmp_path))
        tokenizer.add_tokens(["<image>"], special_tokens=True)
        with pytest.raises(ConfigError, match=rf"^template: expected an end of answers .*, found {end}; answers would"):
            make_processor(tokenizer, template=template)


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


def renderer(**changes: Any) -> ItemRenderer:
    return make_processor(make_tokenizer(), **changes).renderer


BOXED = Turn(role="gpt", text="<boxes>", boxes_seq=((0, 1),))
POINTED = Turn(role="gpt", text="<points>", points_seq=((0,),))


def test_samples_stand_in_place_of_regions_on_an_image_of_any_size() -> None:
    in_pixels = renderer(codec="qwen25_vl", template="plain")
    large = SquarePreprocessor(size=56, mean=(0.5,) * 3, std=(0.5,) * 3, tokens=1)
    for size, view, corners in (
        (None, None, [221, 166, 434, 325]),  # of 640 x 480
        ((40, 20), None, [10, 10, 19, 19]),  # of 28 x 28, as the view pads it
        ((40, 20), large, [19, 19, 38, 38]),
    ):
        text = marked(in_pixels.samples((BOXED,), size, view=view))
        assert text.count(f'{{"bbox_2d": {corners}}}') == 2, text
    assert marked(in_pixels.samples((POINTED,), None)).startswith('«{"point_2d": [221, 166]}»')


def test_samples_of_an_item_have_its_system_message(item: Item) -> None:
    made = renderer()
    known = read_item(
        {
            "target": {"boxes": [[20, 0, 40, 20]]},
            "image": item.images[0].open(),
            "system": "Be red.",
            "conversations": [
                {"from": "human", "value": "<image>Where?"},
                {"from": "gpt", "value": "<boxes>", "boxes_seq": [[0]]},
            ],
        },
        key="a",
    )
    text = marked(made.samples(known.turns, (40, 20), known))
    assert text.replace("»«", "") == "Be red. USER: <image>Where? ASSISTANT:« [0.345,0.345,0.678,0.678]</s>»"
    assert "red" not in marked(made.samples(known.turns, (40, 20)))


def test_answer_is_the_supervised_text_up_to_its_last_words() -> None:
    made = renderer()
    for text in ("A cat.", "a <image> b"):
        assert marked(made.answer(text)).replace("»«", "") == f"« {text}»"
    assert made.answer("") == []
    with pytest.raises(DataError, match="expected an answer without"):
        renderer(template="plain").answer("a\nb")


def test_probes_have_a_box_and_a_point_where_the_codec_writes_them() -> None:
    box, point = renderer().probes()
    assert box.endswith("USER: <image>\nWhere is it? ASSISTANT: There: [0.345,0.345,0.678,0.678].</s>")
    assert point.endswith("There: [0.345,0.345].</s>")
    (only,) = renderer(codec="internvl").probes()
    assert "There: <box>[[345, 345, 678, 678]]</box>." in only
    assert "[10, 10, 19, 19]" in renderer(codec="qwen25_vl").probes()[0]
    blind = renderer(codec="qwen25_vl", view=NoView()).probes()
    assert ["<image>" in text for text in blind] == [False, False]
    assert "[221, 166, 434, 325]" in blind[0]


def test_spans_refuse_images_where_the_model_takes_none(item: Item) -> None:
    with pytest.raises(DataError, match=r"expected text alone, found 1 image\(s\): the model takes none"):
        renderer(view=NoView()).spans(item, item.turns[:1])


def test_templates_with_a_system_message_are_made_once_as_far_as_memory_is_bounded() -> None:
    made = renderer()
    first = made._template_of("Be 0.")
    for number in range(1, KNOWN_SYSTEMS):
        made._template_of(f"Be {number}.")
    assert made._template_of("Be 0.") is first
    for number in range(40):
        made._template_of(f"See {number}.")
        assert len(made._systems) <= KNOWN_SYSTEMS
