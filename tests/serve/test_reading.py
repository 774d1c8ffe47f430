"""An answer read token by token is the answer read as a whole."""

from __future__ import annotations

import json
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageColor
from transformers import AutoTokenizer

from mllm.conversation.processor import Processor
from mllm.errors import DataError
from mllm.images import MemoryImage, VideoFrame
from mllm.images.contact_sheet import ContactSheet
from mllm.report.drawing import colour_of
from mllm.serve.question import Message, to_item
from mllm.serve.reading import Answer, AnswerReader, Piece, read_answer_text, with_typed_answers
from mllm.types import Item
from tests.conftest import make_tokenizer
from tests.conversation.processors import make_processor
from tests.sentencepieces import save_llama

PHOTO = Image.new("RGB", (100, 50), "white")
ITEM = to_item([Message(role="user", text="Where?", images=[PHOTO])])
WORDS = "Where is the dog [0.100,0.300,0.500,0.700] and — 你好 🐶 [0.200,0.400;0.500,0.500]?"


@pytest.fixture(scope="module")
def bytes_processor() -> Processor:
    """Of a byte-level tokenizer, most of whose tokens are parts of the characters above."""
    return make_processor(make_tokenizer())


@pytest.fixture(scope="module")
def pieces_processor() -> Processor:
    """Of a sentencepiece tokenizer with tokens for bytes."""
    return _sentencepieces()


def read(processor: Processor, ids: list[int], item: Item = ITEM, **more: Any) -> tuple[list[Piece], Answer]:
    reader = AnswerReader(processor, item, **more)
    pieces = [reader.add(token) for token in ids]
    rest, answer = reader.finish()
    pieces.append(rest)
    assert "".join(piece.text for piece in pieces) == answer.text
    assert tuple(region for piece in pieces for region in piece.regions) == answer.regions
    return pieces, answer


def ids_of(processor: Processor, text: str) -> list[int]:
    return processor.tokenizer(text, add_special_tokens=False)["input_ids"]  # type: ignore[return-value]


@pytest.mark.parametrize("name", ["bytes_processor", "pieces_processor"])
def test_answer_reader_gives_whole_characters_and_regions(name: str, request: pytest.FixtureRequest) -> None:
    processor = request.getfixturevalue(name)
    ids = [*ids_of(processor, f"  {WORDS} \n"), processor.end_token_id, 5]
    pieces, answer = read(processor, ids)
    assert answer.text == WORDS
    assert not any("\ufffd" in piece.text for piece in pieces)
    assert (answer.finish_reason, answer.tokens) == ("stop", len(ids) - 1)
    dog, points = answer.regions
    assert (dog.label, dog.boxes[0].xyxy, dog.image) == ("the dog", pytest.approx((10, 5, 50, 45)), 0)
    assert answer.text[slice(*dog.span)] == "[0.100,0.300,0.500,0.700]"
    assert [point.xy for point in points.points] == [pytest.approx((20, 15)), pytest.approx((50, 25))]
    assert answer.plain == "Where is the dog and — 你好 🐶?"
    assert answer.plain[slice(*answer.plain_spans[0])] == "the dog"
    closed = next(n for n, piece in enumerate(pieces) if piece.regions)
    assert "".join(piece.text for piece in pieces[: closed + 1]).endswith("0.700]")


@given(st.lists(st.integers(0, 420), max_size=40))
def test_answer_reader_reads_any_tokens_as_decode_does(ids: list[int]) -> None:
    for processor in _processors():
        known = [token for token in ids if token < len(processor.tokenizer)]  # type: ignore[arg-type]
        _, answer = read(processor, known)
        whole = processor.decode(known, ITEM, 0)
        assert (answer.text, answer.boxes, answer.points) == (whole.text, whole.boxes, whole.points)


@cache
def _processors() -> list[Processor]:
    return [make_processor(make_tokenizer()), make_processor(make_tokenizer(), template="llava_v0")]


@given(st.lists(st.sampled_from(["<0xE4>", "<0xBD>", "<0xA0>", "<0x41>", "▁", "▁Where", "A", "<0xE5>"]), max_size=12))
def test_answer_reader_holds_bytes_back_until_they_are_characters(tokens: list[str]) -> None:
    processor = _sentencepieces()
    ids: Any = processor.tokenizer.convert_tokens_to_ids(tokens)
    _, answer = read(processor, ids)
    assert answer.text == processor.decode(ids, ITEM, 0).text


@cache
def _sentencepieces() -> Processor:
    tokenizer: Any = AutoTokenizer.from_pretrained(save_llama(Path(tempfile.mkdtemp())))
    tokenizer.add_tokens(["<image>"], special_tokens=True)
    tokenizer.pad_token = tokenizer.eos_token
    return make_processor(tokenizer)


def test_answer_reader_holds_back_what_may_become_a_stop_text(bytes_processor: Processor) -> None:
    ids = ids_of(bytes_processor, "the red circle STOP the blue square")
    pieces, answer = read(bytes_processor, ids, stop=("STOP", "never"))
    assert (answer.text, answer.finish_reason) == ("the red circle", "stop")
    assert not any("S" in piece.text for piece in pieces)
    _, answer = read(bytes_processor, ids_of(bytes_processor, "the red circle STO"), stop=("STOP",))
    assert (answer.text, answer.finish_reason) == ("the red circle STO", "length")


def test_answer_reader_ends_where_a_template_ends_in_words() -> None:
    processor = make_processor(make_tokenizer(), template="llava_v0")
    ids = ids_of(processor, "the circle\n#\n###\n### Human: more")
    pieces, answer = read(processor, ids)
    assert answer.text == processor.decode(ids, ITEM, 0).text == "the circle\n#"
    assert answer.finish_reason == "stop"
    assert pieces[-1].text == ""


def test_answer_reader_takes_words_of_a_server(bytes_processor: Processor) -> None:
    reader = AnswerReader(bytes_processor, ITEM)
    pieces = [reader.add_text(letter) for letter in WORDS]
    rest, answer = reader.finish("length")
    assert "".join(piece.text for piece in [*pieces, rest]) == answer.text == WORDS
    assert [len(piece.regions) for piece in pieces if piece.regions] == [1, 1]
    assert answer.finish_reason == "length"


def test_an_answer_without_an_image_has_no_regions(bytes_processor: Processor) -> None:
    item = to_item([Message(role="user", text="Hi")])
    answer = read_answer_text(bytes_processor, item, "a [0.1,0.2,0.3,0.4]")
    assert (answer.regions, answer.plain) == ((), answer.text)
    with pytest.raises(DataError, match="expected one of the conversation's 0 images"):
        answer.draw()


def test_regions_are_those_of_the_whole_text_and_boxes_those_of_the_stated_answer(bytes_processor: Processor) -> None:
    text = "<think>a cat [0.1,0.3,0.2,0.4]</think> the dog [0.5,0.5,0.6,0.6]"
    answer = read_answer_text(bytes_processor, ITEM, text)
    assert [region.label for region in answer.regions] == ["a cat", "the dog"]
    assert [round(box.x1) for box in answer.boxes] == [50]


def test_numbers_without_marks_are_regions_at_the_end() -> None:
    processor = make_processor(make_tokenizer(), codec="qwen3_vl")
    pieces, answer = read(processor, ids_of(processor, "the dog (10, 20, 500, 600) sits"))
    assert [len(piece.regions) for piece in pieces][-1] == len(answer.regions) == len(answer.boxes) == 1
    assert answer.plain == "the dog sits"


def test_labels_of_json_and_marks() -> None:
    processor = make_processor(make_tokenizer(), codec="qwen3_vl")
    text = '```json\n[{"bbox_2d": [0, 0, 500, 500], "label": "a dog"}]\n```'
    answer = read_answer_text(processor, ITEM, text)
    assert (answer.regions[0].label, answer.plain, answer.plain_spans) == ("a dog", "a dog", ((0, 5),))
    marked = read_answer_text(
        make_processor(make_tokenizer(), codec="qwen_vl"), ITEM, "<ref>a dog</ref><box>(0,0),(99,99)</box>"
    )
    assert (marked.plain, marked.message.text) == ("a dog", "a dog <boxes>")


def test_phrases_that_follow_come_with_their_region() -> None:
    processor = make_processor(make_tokenizer(), codec="paligemma")
    text = "<loc0000><loc0000><loc0512><loc0512> a cat ; <loc0000><loc0000><loc0512><loc0512> dog"
    _, answer = read(processor, ids_of(processor, text))
    assert [region.label for region in answer.regions] == ["a cat", "dog"]


def test_an_answer_that_cannot_be_read_says_why(bytes_processor: Processor) -> None:
    answer = read_answer_text(bytes_processor, ITEM, "a dog [0.9,0.3,0.1,0.4]")
    assert (answer.failure, answer.regions[0].failure, answer.plain) == ("inverted", "inverted", answer.text)
    assert (answer.message.text, answer.message.boxes) == (answer.text, [])


def test_draw_has_the_colour_of_each_group_on_its_image(bytes_processor: Processor) -> None:
    answer = read_answer_text(bytes_processor, ITEM, "[0.1,0.3,0.2,0.4;0.4,0.3,0.5,0.4] and [0.7,0.3,0.9,0.7]")
    drawn = answer.draw()
    first, second = (tuple(bytes.fromhex(colour_of(number)[1:])) for number in (0, 1))
    columns = [{drawn.getpixel((x, y)) for y in range(8)} - {(255, 255, 255)} for x in (15, 45, 80)]
    assert columns == [{first}, {first}, {second}]
    with pytest.raises(DataError, match="image: expected one of the conversation's 1 images, found 3"):
        answer.draw(3)


def test_to_dict_is_json(bytes_processor: Processor) -> None:
    said = json.loads(
        json.dumps(read_answer_text(bytes_processor, ITEM, "the dog [0.100,0.300,0.500,0.700]").to_dict())
    )
    (region,) = said["regions"]
    assert region == {
        "index": 0,
        "label": "the dog",
        "span": [8, 33],
        "phrase": [0, 7],
        "image": 0,
        "boxes": [[10, 5, 50, 45]],
        "points": [],
        "failure": None,
        "plain_span": [0, 7],
    }
    assert (said["plain"], said["finish_reason"], said["failure"]) == ("the dog", "stop", None)


def test_with_typed_answers_reads_what_a_client_sends_back() -> None:
    processor = make_processor(make_tokenizer(), codec={"type": "bins", "bins": 101})
    text = "There <b_st><bin_10><bin_30><bin_50><bin_70><b_ed>."
    said = [
        Message(role="user", text="Where?", images=[PHOTO]),
        Message(role="assistant", text=text),
        Message(role="user", text="Sure?"),
    ]
    typed = with_typed_answers(said, processor)
    assert typed[1].text == "There <boxes>."
    ids = processor.encode(to_item(typed), 0, answer=False).input_ids.tolist()
    form = ids_of(processor, text[6:-1])
    assert len(form) == 6
    assert any(ids[start : start + 6] == form for start in range(len(ids)))


def test_words_that_look_like_placeholders_are_words(bytes_processor: Processor) -> None:
    message = read_answer_text(bytes_processor, ITEM, "an <image> of <boxes> [0.1,0.3,0.2,0.4]").message
    assert (message.text, len(message.boxes)) == ("an < image > of < boxes > <boxes>", 1)
    again = Message(role="user", text="Sure?")
    assert len(to_item([Message(role="user", text="Where?", images=[PHOTO]), message, again]).boxes) == 1


def filmed(*, duration: float | None = None) -> Item:
    frames = [VideoFrame(ref=MemoryImage(PHOTO), time=float(time), duration=duration) for time in range(4)]
    return to_item([Message(role="user", text="When?", images=frames)])


def test_answers_about_videos_have_time_spans_and_others_none(bytes_processor: Processor) -> None:
    text = "From 0.5 to 2 seconds."
    answer = read_answer_text(bytes_processor, filmed(), text)
    assert [(span.start, span.end) for span in answer.time_spans] == [(0.5, 2.0)]
    assert answer.to_dict()["time_spans"] == [[0.5, 2.0]]
    assert answer.to_dict()["time_failure"] is None
    late = read_answer_text(bytes_processor, filmed(duration=3.0), "From 5 to 6 seconds.")
    assert (late.time_spans, late.time_failure) == ((), "out_of_range")
    still = read_answer_text(bytes_processor, ITEM, text)
    assert still.time_spans == ()
    assert "time_spans" not in still.to_dict()


def test_time_spans_are_drawn_as_frames(bytes_processor: Processor) -> None:
    sheet = read_answer_text(bytes_processor, filmed(), "From 0.5 to 2 seconds.").draw()
    places = ContactSheet(filmed().images, (0, 1, 2, 3), ("",) * 4).places
    colour = ImageColor.getrgb(colour_of(0))
    assert [sheet.getpixel((x, y + 20)) == colour for x, y in places.values()] == [False, True, True, False]
    one = read_answer_text(bytes_processor, filmed(), "From 0.5 to 2 seconds.").draw(image=1)
    assert one.size == PHOTO.size
