from __future__ import annotations

import copy
import re
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from transformers import PreTrainedTokenizerFast

from mllm.conversation.collator import Collator
from mllm.conversation.item_renderer import USUAL_SIZE
from mllm.conversation.packing import Length
from mllm.conversation.pixels import PixelCodec
from mllm.conversation.preprocessing.image_preprocessor import NoView, SquarePreprocessor
from mllm.conversation.processor import Processor
from mllm.conversation.rendering import IGNORE
from mllm.errors import DataError
from mllm.geometry import Placement
from mllm.images import image_ref
from mllm.metrics.failures import failure_of
from mllm.records import read_item
from mllm.serve.reading import AnswerReader
from mllm.types import BOXES, Box, GroundTruth, Item, Prediction, Turn
from tests.conftest import make_tokenizer
from tests.conversation.chat_templates import FAMILIES
from tests.conversation.processors import SIDE, TOKENS, make_processor
from tests.marks import grid


def rec(size: tuple[int, int], box: list[float], *, question: str = "<image>\nWhere is it?") -> Item:
    record = {
        "image": Image.new("RGB", size),
        "target": {"boxes": [box]},
        "conversations": [
            {"from": "human", "value": question},
            {"from": "gpt", "value": "Answer: <boxes> .", "boxes_seq": [[0]]},
        ],
    }
    return read_item(record, key="a.jsonl:1")


def answer_ids(processor: Processor, item: Item) -> list[int]:
    example = processor.encode(item, 0)
    assert example.labels is not None
    return [int(label) for label in example.labels if label != IGNORE]


def test_only_answers_are_supervised(processor: Processor, item: Item) -> None:
    """A 40 x 20 photo lies in the middle rows of its square: the box is its right half."""
    text = processor.tokenizer.decode(answer_ids(processor, item))
    assert text == " Answer: [0.500,0.250,1.000,0.750] .</s>"


def test_a_prompt_is_the_beginning_of_its_training_row(processor: Processor, item: Item) -> None:
    prompt, row = processor.encode(item, 0, answer=False), processor.encode(item, 0)
    assert prompt.labels is None
    assert row.input_ids[: len(prompt.input_ids)].equal(prompt.input_ids)
    assert processor.tokenizer.decode(prompt.input_ids).endswith("ASSISTANT:")


@pytest.mark.parametrize(
    ("codec", "placement"),
    grid(
        ["shikra", "bins", "ferret", "minigpt_v2", "kosmos2", "qwen2_vl", "qwen25_vl", "paligemma", "gemini"],
        ["pad", "squash", "crop"],
    ),
)
@settings(max_examples=20, deadline=None)
@given(width=st.integers(8, 900), height=st.integers(8, 900), data=st.data())
def test_what_is_written_is_read_back_in_original_pixels(
    codec: str, placement: str, width: int, height: int, data: st.DataObject
) -> None:
    """The whole way there and back, for any image size: within the codec's bound of its frame, in original pixels."""
    if (codec, placement) not in CACHED:
        CACHED[codec, placement] = make_processor(make_tokenizer(), codec=codec, placement=placement)
    processor = CACHED[codec, placement]
    where = processor.view.placement((width, height))
    inside = 1e-6 if placement == "crop" else 0.0  # rounding must not move a drawn edge out of the crop
    left, top = (max(0.0, value + inside) for value in where.inverse(0, 0))
    right, bottom = (
        min(side, end - inside) for side, end in zip((width, height), where.inverse(*where.canvas), strict=True)
    )
    xs = sorted(data.draw(st.tuples(st.floats(left, right), st.floats(left, right))))
    ys = sorted(data.draw(st.tuples(st.floats(top, bottom), st.floats(top, bottom))))
    box = [xs[0], ys[0], xs[1], ys[1]]
    item = rec((width, height), box)
    prediction = processor.decode(answer_ids(processor, item), item, 0)
    assert prediction.failure is None
    assert prediction.truth == item.truth
    frame = where.canvas if processor.codec.frame == "canvas" else where.source
    scale = where.scale if processor.codec.frame == "canvas" else (1.0, 1.0)
    bounds = [processor.codec.error(frame) * side / by + 1e-6 for side, by in zip(frame, scale, strict=True)] * 2
    for value, expected, bound in zip(prediction.boxes[0].xyxy, box, bounds, strict=True):
        assert value == pytest.approx(expected, abs=bound)


CACHED: dict[tuple[str, str], Processor] = {}


@pytest.mark.parametrize(
    ("text", "read", "judged"),
    [
        ("Answer: [0.500,0.250,1.000,0.750] .", None, None),
        ("it is the right half", None, "none"),
        ("Answer: [0.5,0.25,1.0 .", "malformed", "malformed"),
        ("Answer: [0.5,1.25,1.0,1.75] .", "out_of_range", "out_of_range"),
        ("Answer: [0.5,0.25,0.75] .", "wrong_count", "wrong_count"),
        ("[0.1,0.3,0.2,0.4] or [0.3,0.3,0.4,0.4]", None, "wrong_count"),
        ("Answer: [0.9,0.25,0.5,0.75] .", "inverted", "inverted"),
    ],
)
def test_an_unreadable_answer_is_classed(
    processor: Processor, item: Item, text: str, read: str | None, judged: str | None
) -> None:
    """Reading says what cannot be read; how many there should be is for the metrics to say."""
    ids = processor.tokenizer(text + "</s> and more", add_special_tokens=False)["input_ids"]
    prediction = processor.decode(ids, item, 7)
    assert (prediction.text, prediction.failure, prediction.index) == (text, read, 7)
    assert failure_of(prediction) == judged


def said(processor: Processor, text: str, item: Item, **of: Any) -> Prediction:
    return processor.decode(processor.tokenizer(text, add_special_tokens=False)["input_ids"], item, 0, **of)


def test_regions_are_read_after_the_thinking(processor: Processor, item: Item) -> None:
    thinking = "<think>[0.1,0.3,0.2,0.4]? No: [0.2,0.3,0.4,0.5</think>"
    prediction = said(processor, f"{thinking}It is [0.5,0.25,1.0,0.75].", item)
    assert prediction.text.startswith("<think>")
    assert [box.xyxy for box in prediction.boxes] == [(20, 0, 40, 20)]
    assert (prediction.failure, failure_of(prediction)) == (None, None)
    assert failure_of(said(processor, "<think>It is [0.5,0.25,1.0,0.75]", item)) == "none"


def test_an_answer_that_is_cut_off_in_thoughts_that_its_prompt_began_states_nothing(item: Item) -> None:
    tokenizer = make_tokenizer()
    tokenizer.add_tokens(["<|im_start|>", "<|im_end|>"], special_tokens=True)
    tokenizer.chat_template = FAMILIES["qwen35"]
    processor = make_processor(tokenizer, template={"type": "chat", "thinking": True})
    cut = said(processor, "Perhaps [0.5,0.25,1.0,0.75]", item)
    assert (cut.text, cut.boxes, failure_of(cut)) == ("<think>\nPerhaps [0.5,0.25,1.0,0.75]", (), "none")
    whole = said(processor, "Perhaps [0.1,0.3,0.2,0.4].\n</think>\n\n[0.5,0.25,1.0,0.75]<|im_end|>x", item)
    assert [box.xyxy for box in whole.boxes] == [(20, 0, 40, 20)]
    reader = AnswerReader(processor, item)
    for token in processor.tokenizer("Hm</think>[0.5,0.25,1.0,0.75]", add_special_tokens=False)["input_ids"]:
        reader.add(token)
    assert reader.finish()[1].text == "<think>\nHm</think>[0.5,0.25,1.0,0.75]"


@pytest.mark.parametrize(
    "answer", ["<answer>{}</answer>", "<answer>**{}**", "\\boxed{{{}}} [0.1,0.3", "<answer>\\boxed{{{}}}"]
)
def test_regions_are_read_where_the_answer_is_marked(processor: Processor, item: Item, answer: str) -> None:
    text = "<think>Hm.</think>Not [0.1,0.3,0.2,0.4]: " + answer.format("[0.5,0.25,1.0,0.75]")
    prediction = said(processor, text, item)
    assert ([box.xyxy for box in prediction.boxes], prediction.failure) == ([(20, 0, 40, 20)], None)


def test_a_box_that_reaches_out_of_its_image_is_cut_off_and_counted(processor: Processor, item: Item) -> None:
    """40 x 20 pixels in the middle of a square of 40: a box from the padding to beyond the canvas."""
    prediction = said(processor, "[0.5,0.2,1.02,0.75]", item)
    assert [box.xyxy for box in prediction.boxes] == [(20, 0, 40, 20)]
    assert (prediction.clipped, prediction.failure) == (1, None)
    assert said(processor, "[0.5,0.25,1.0,0.75]", item).clipped == 0


def test_bare_forms_are_read(tokenizer: PreTrainedTokenizerFast, item: Item) -> None:
    processor = make_processor(tokenizer, codec="internvl")
    assert [box.xyxy for box in said(processor, "[[500, 0, 1000, 1000]]", item).boxes] == [(20, 0, 40, 20)]


SIZES = [(40, 20), (30, 60), (90, 30)]
ASKED: list[tuple[list[dict[str, Any]], int]] = [
    ([{"value": "<image><image><image>\nWhere?"}], 0),
    ([{"value": "<image><image><image>\nWhere in the second?", "image": 1}], 1),
    ([{"value": "<image><image><image>\nWhat is <boxes>?", "boxes_seq": [[2]]}], 2),
    ([{"value": "<image><image>\nHm?"}, {"value": "<image>\nWhere?"}], 2),
]
"""Human turns about images of these sizes, with a box on each, and the image that the last is about."""


def about(asked: list[dict[str, Any]], truth: dict[str, Any]) -> Item:
    turns = [turn for one in asked for turn in ({"from": "human", **one}, {"from": "gpt", "value": "Well."})]
    record = {
        "images": [Image.new("RGB", size) for size in SIZES],
        "target": {
            "boxes": [[0, 0, 9, 9]] * 3,
            "boxes_image": [0, 1, 2],
            "points": [[1, 1]] * 3,
            "points_image": [0, 1, 2],
        },
        "conversations": turns,
        "truth": truth,
    }
    return read_item(record, key="a.jsonl:1")


@pytest.mark.parametrize("codec", ["shikra", "ferret", "qwen25_vl", "bins"])
@pytest.mark.parametrize(("asked", "image"), ASKED)
def test_decode_reads_regions_on_the_image_that_the_question_is_about(
    codec: str, asked: list[dict[str, Any]], image: int
) -> None:
    """A mutant that reads them on the first image, or on that of the truth, fails here."""
    processor = make_processor(make_tokenizer(), codec=codec)
    width, height = SIZES[image]
    box = Box(x1=1, y1=2, x2=width - 3, y2=height - 4, image=image)
    other = (image + 1) % 3
    text = PixelCodec(processor.codec, processor.view.placement((width, height)), image=image).write_boxes([box])
    for truth in ({"boxes": [image]}, {"boxes": [other]}, {"points": [other]}, {"boxes": []}, {"texts": ["no"]}):
        (read,) = said(processor, text, about(asked, truth)).boxes
        assert read.image == image
        assert read.xyxy == pytest.approx(box.xyxy, abs=5)


def test_decode_does_not_look_at_the_answer(processor: Processor) -> None:
    """Of three images none is named by the question, so it is the first: the answer's own regions do not say which."""
    item = about([{"value": "<image><image><image>\nWhere?"}], {})
    answered = replace(
        item, turns=(item.turns[0], Turn(role="gpt", text="<boxes> <points>", boxes_seq=((2,),), points_seq=((1,),)))
    )
    for one in (item, answered, replace(item, turns=item.turns[:1])):
        assert [box.image for box in said(processor, "[0.5,0.5,1,1]", one).boxes] == [0]


WORDS = st.sampled_from(
    [
        *(
            "[0.1,0.3,0.5,0.6]",
            "[0.5,0.5]",
            "[0.1,0.3,0.5",
            "[0.9,0.3,0.5,0.6]",
            "[0.4,0.3,0.5,1.6]",
            "[0.4,1.3,0.5,1.6]",
        ),
        *(" and ", "none", "</s>", "<think>", "</think>", "(0.1,0.3),(0.5,0.6)", "0.1, 0.3, 0.5, 0.6"),
    ]
)
TRUTHS = st.fixed_dictionaries(
    {},
    optional={
        "boxes": st.lists(st.integers(0, 2), max_size=3),
        "points": st.lists(st.integers(0, 2), max_size=3),
        "texts": st.lists(st.text(max_size=3), max_size=2),
        "options": st.lists(st.text(max_size=3), max_size=2),
        "candidates": st.lists(st.integers(0, 2), max_size=3),
    },
)


@settings(max_examples=40, deadline=None)
@given(words=st.lists(WORDS, max_size=4), truths=st.tuples(TRUTHS, TRUTHS), asked=st.sampled_from(ASKED))
def test_decode_does_not_depend_on_the_truth(
    words: list[str], truths: tuple[dict[str, Any], dict[str, Any]], asked: tuple[list[dict[str, Any]], int]
) -> None:
    """The same ids give the same answer, whatever the truth is, moved or gone: only `truth` itself differs."""
    processor = CACHED.setdefault(("shikra", "pad"), make_processor(make_tokenizer()))
    first, second = (about(asked[0], truth) for truth in truths)
    predictions = [
        said(processor, " ".join(words), item) for item in (first, second, replace(first, truth=GroundTruth()))
    ]
    assert len({replace(prediction, truth=GroundTruth()) for prediction in predictions}) == 1


def test_decode_reads_an_answer_on_another_image_where_it_is_told_so(processor: Processor) -> None:
    item = about([{"value": "<image>\nWhere?"}, {"value": "<image><image>\nAnd there?", "image": 2}], {})
    text = "[0.5,0.5,1,1]"
    assert [box.image for box in said(processor, text, item).boxes] == [2]
    assert [box.image for box in said(processor, text, item, image=0).boxes] == [0]


def test_an_answer_without_a_region_is_written_learned_and_read(tokenizer: PreTrainedTokenizerFast) -> None:
    record = {
        "image": Image.new("RGB", (40, 20)),
        "target": {"boxes": [[0, 0, 9, 9]]},
        "conversations": [
            {"from": "human", "value": "<image>\nWhere is the unicorn?"},
            {"from": "gpt", "value": "Answer: <boxes> .", "boxes_seq": [[]]},
        ],
    }
    for codec, none in (("shikra", "none"), ("bins", "none"), ("qwen3_vl", "[]"), ("molmo", "There are none.")):
        item = read_item(record, key="a.jsonl:1")
        processor = make_processor(make_tokenizer(), codec=codec)
        ids = answer_ids(processor, item)
        prediction = processor.decode(ids, item, 0)
        assert prediction.text == f"Answer: {none} ."
        assert (prediction.boxes, prediction.failure, failure_of(prediction)) == ((), None, None)
        assert processor.length(item).tokens == len(processor.encode(item, 0).input_ids)
    text_alone = {"conversations": [{"from": "human", "value": "Hi"}, record["conversations"][1]]}
    prediction = processor.encode(read_item(text_alone, key="a:1"), 0)
    assert "There are none." in processor.tokenizer.decode(prediction.input_ids)


class AsItIs(SquarePreprocessor):
    def placement(self, size: tuple[int, int]) -> Placement:
        return Placement(source=size, canvas=size)


def test_each_region_is_written_at_the_size_of_its_own_image(tokenizer: PreTrainedTokenizerFast) -> None:
    """Boxes of all of three images that the model sees in their own size, in pixels of it."""
    view = AsItIs(size=SIDE, mean=(0.5,) * 3, std=(0.5,) * 3, tokens=TOKENS)
    processor = make_processor(tokenizer, codec="qwen25_vl", view=view)
    record = {
        "images": [Image.new("RGB", size) for size in SIZES],
        "target": {"boxes": [[0, 0, *size] for size in SIZES], "boxes_image": [0, 1, 2]},
        "conversations": [
            {"from": "human", "value": "<image><image><image>\nWhere?"},
            {"from": "gpt", "value": "<boxes> <boxes> <boxes>", "boxes_seq": [[2], [0], [1]]},
        ],
    }
    text = processor.tokenizer.decode(answer_ids(processor, read_item(record, key="a.jsonl:1")))
    assert re.findall(r"\d+, \d+, \d+, \d+", text) == ["0, 0, 89, 29", "0, 0, 39, 19", "0, 0, 29, 59"]


@pytest.mark.parametrize(
    ("truth", "message"),
    [
        (
            {"boxes": [0, 1]},
            r"a.jsonl:1: truth.boxes\[1\]: expected a region on image 0, which the question is about, found one on "
            "image 1; name its image with 'image' in its turn",
        ),
        ({"points": [2]}, r"a.jsonl:1: truth.points\[0\]: expected a region on image 0"),
    ],
)
def test_a_prompt_whose_truth_lies_on_another_image_is_refused(
    processor: Processor, truth: dict[str, Any], message: str
) -> None:
    item = about(ASKED[0][0], truth)
    processor.encode(item, 0)  # training does not read the truth
    with pytest.raises(DataError, match=message) as caught:
        processor.encode(item, 0, answer=False)
    assert caught.value.kind == "image-number"
    processor.encode(about([{**ASKED[0][0][0], "image": 1}], {"boxes": [1]}), 0, answer=False)


@pytest.mark.parametrize("answer", [True, False])
def test_a_truth_wholly_outside_the_image_is_refused_in_training_and_evaluation(
    processor: Processor, answer: bool
) -> None:
    with pytest.raises(DataError, match=r"a.jsonl:1: (target|truth).boxes\[0\]: expected a box in what the model"):
        processor.encode(rec((40, 20), [41, 0, 50, 20]), 0, answer=answer)
    processor.encode(rec((40, 20), [39, 0, 50, 20]), 0, answer=answer)


def test_a_multi_token_end_is_cut_off(tokenizer: PreTrainedTokenizerFast, item: Item) -> None:
    processor = make_processor(tokenizer, template="llava_v0")
    ids = tokenizer(" [0.5,0.25,1,0.75]\n### Human: more", add_special_tokens=False)["input_ids"]
    assert processor.decode(ids, item, 0).text == "[0.5,0.25,1,0.75]"


@pytest.mark.parametrize("answer", [True, False])
def test_more_tokens_than_the_language_model_has_positions_for_are_refused(
    tokenizer: PreTrainedTokenizerFast, item: Item, answer: bool
) -> None:
    processor = make_processor(tokenizer)
    length = len(processor.tokens(item, answer=answer).ids)
    processor.positions = length
    processor.encode(item, 0, answer=answer)
    processor.positions = length - 1
    with pytest.raises(DataError, match=rf"conversations: expected at most {length - 1} tokens, .*, found {length}"):
        processor.encode(item, 0, answer=answer)


def test_a_row_that_max_length_cuts_fits_the_positions(tokenizer: PreTrainedTokenizerFast, item: Item) -> None:
    processor = make_processor(tokenizer)
    length = len(processor.tokens(item).ids)
    processor.positions = processor.max_length = length - 1
    assert len(processor.encode(item, 0).input_ids) == length - 1


def test_a_prompt_without_a_token_is_refused(tokenizer: PreTrainedTokenizerFast) -> None:
    bare = copy.deepcopy(tokenizer)
    bare.bos_token = None
    turns = [{"from": "human", "value": "x"}, {"from": "gpt", "value": "Hi."}]
    with pytest.raises(DataError, match="t:1: conversations: expected a prompt that says something"):
        make_processor(bare, template="plain").encode(read_item({"conversations": turns}, key="t:1"), 0, answer=False)


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("vicuna_v1", "It says </s> and [0.5]"),
        ("otter", "</s> <|endofchunk|>"),
        ({"type": "instruction", "instruction": "Q", "response": "A:", "end": "<|endofchunk|>"}, "a<|endofchunk|>b"),
        ("chat", "<|im_end|> is written so"),
    ],
)
def test_an_answer_that_spells_out_its_end_is_not_cut(
    tokenizer: PreTrainedTokenizerFast, template: Any, said: str
) -> None:
    tokenizer.add_tokens(["<|im_start|>", "<|im_end|>", "<|endofchunk|>"], special_tokens=True)
    tokenizer.chat_template = FAMILIES["chatml"]
    processor = make_processor(tokenizer, template=template)
    turns = [{"from": "human", "value": "<image>\nRead it."}, {"from": "gpt", "value": said}]
    item = read_item({"image": Image.new("RGB", (8, 8)), "conversations": turns}, key="a.jsonl:1")
    ids = answer_ids(processor, item)
    assert processor.end_token_id in ids
    assert processor.decode([*ids, *ids], item, 0).text == said


def test_an_end_of_ordinary_words_is_where_an_answer_first_spells_it(
    tokenizer: PreTrainedTokenizerFast, item: Item
) -> None:
    processor = make_processor(tokenizer, template="llava_v0")
    assert processor.end_token_id is None
    ids = tokenizer(" one ### two\n### three\n###", add_special_tokens=False)["input_ids"]
    assert processor.decode(ids, item, 0).text == "one ### two"


def test_long_texts_are_read_without_a_warning(
    tokenizer: PreTrainedTokenizerFast, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    tokenizer.model_max_length = 5
    processor = make_processor(tokenizer)
    processor.length(rec((8, 8), [0, 0, 8, 8]))
    assert len(processor.encode(rec((8, 8), [0, 0, 8, 8]), 0).input_ids) > 5
    assert not caplog.text
    assert not capfd.readouterr().err


def test_lengths_are_those_of_the_rows(tokenizer: PreTrainedTokenizerFast) -> None:
    processor = make_processor(tokenizer)
    for question in ("<image>\nWhere is it?", "say </s> <image> <s>", "<image> é {} <image_>"):
        item = rec((8, 8), [1, 1, 7, 7], question=question)
        assert processor.length(item).tokens == len(processor.encode(item, 0).input_ids)


def asked(question: str, answer: str = "It is here.", **shown: Any) -> Item:
    turns = [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]
    return read_item({**shown, "conversations": turns}, key="a:1")


PHOTO = Image.new("RGB", (40, 20))


def test_length_tells_what_others_may_share(tokenizer: PreTrainedTokenizerFast) -> None:
    processor = make_processor(tokenizer)
    item = asked("<image>\nWhere is it?", image=PHOTO)
    row = processor.encode(item, 0)
    ids, end = row.input_ids.tolist(), row.images_end
    learned_from = next(place for place, label in enumerate(processor.tokens(item).labels) if label != IGNORE)
    assert (
        processor.length(item)
        == Length(
            tokens=len(ids),
            images=TOKENS,
            shared=end,
            beginning=tuple(ids[: end - TOKENS + 1]),  # of the image one
            question=tuple(ids[end : learned_from - 1]),
        )
    )
    text = processor.length(asked("Where is it?"))
    assert (text.images, text.shared, text.beginning) == (0, 0, ())
    assert text.tokens == len(processor.tokens(asked("Where is it?")).ids)


def test_length_shares_no_words_behind_regions(tokenizer: PreTrainedTokenizerFast) -> None:
    def of(question: str) -> Length:
        turns = [
            {"from": "human", "value": question, "boxes_seq": [[0]]},
            {"from": "gpt", "value": "Yes."},
        ]
        record = {"image": PHOTO, "target": {"boxes": [[1, 1, 9, 9]]}, "conversations": turns}
        return make_processor(tokenizer).length(read_item(record, key="a:1"))

    behind, before = of("<image>\nIs <boxes> red?"), of("Is <boxes> red in <image>?")
    assert behind.question == before.question == ()
    assert behind.shared > TOKENS
    assert (before.shared, before.images, before.beginning) == (0, TOKENS, ())


@pytest.mark.parametrize("less", [0, 1, 5])
def test_length_is_cut_at_max_length(tokenizer: PreTrainedTokenizerFast, less: int) -> None:
    processor = make_processor(tokenizer)
    item = asked("<image>\nWhere is it?", image=PHOTO)
    whole = processor.length(item)
    processor.max_length = whole.tokens - less
    assert processor.length(item) == replace(whole, tokens=whole.tokens - less)
    processor.max_length = whole.shared + 1
    inside = processor.length(item)
    assert (inside.tokens, inside.shared, inside.question) == (whole.shared + 1, whole.shared, ())
    processor.max_length = 2
    assert processor.length(item) == Length(tokens=2, images=2)


class Sized(SquarePreprocessor):
    """As many tokens as the image has tens of columns."""

    fixed = False
    token = feature = "<patch>"

    def placeholder_tokens(self, size: tuple[int, int]) -> str:
        return self.token * (size[0] // 10)


def test_length_looks_at_sizes_where_the_view_asks_for_them_and_they_are_here(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    tokenizer.add_tokens(["<patch>"], special_tokens=True)
    view = Sized(size=SIDE, mean=(0.5,) * 3, std=(0.5,) * 3, tokens=1)
    processor = make_processor(tokenizer, view=view)
    assert processor.length(asked("<image>\nWhere?", image=PHOTO)).images == 4
    assert processor.length(asked("<image>\nWhere?", image="https://example.com/a.png")).images == USUAL_SIZE[0] // 10
    view.fixed = True
    assert processor.length(asked("<image>\nWhere?", image=PHOTO)).images == USUAL_SIZE[0] // 10


def test_a_model_without_images_refuses_them(tokenizer: PreTrainedTokenizerFast) -> None:
    processor = make_processor(tokenizer, view=NoView())
    item = asked("<image>\nWhere is it?", image=PHOTO)
    for work in (processor.images, processor.length):
        with pytest.raises(DataError, match=r"a:1: expected text alone, found 1 image\(s\): the model takes none"):
            work(item)


@pytest.mark.parametrize(
    ("template", "question", "ends"),
    [
        ("plain", "<image>\nWhat is it?", True),  # which drops the words
        ("plain", "What is it? <image>", True),
        ("completion", "<image>", True),
        ("completion", "<image> What is it?", False),
        ("vicuna_v1", "<image>", False),  # `ASSISTANT:` follows
    ],
)
@pytest.mark.parametrize("around", [("", ""), ("", "<end>"), ("<begin>", "<end>")])
def test_a_prompt_ends_in_its_image_where_no_word_follows(
    tokenizer: PreTrainedTokenizerFast, template: str, question: str, ends: bool, around: tuple[str, str]
) -> None:
    processor = make_processor(tokenizer, template=template)
    processor.view.around = around  # type: ignore[misc]
    assert processor.ends_in_image(asked(question, image=PHOTO)) == ends


def test_a_prompt_in_words_does_not_end_in_an_image(tokenizer: PreTrainedTokenizerFast) -> None:
    assert not make_processor(tokenizer, template="completion").ends_in_image(asked("What is it?"))


def test_answer_ids_are_those_that_training_supervises(processor: Processor) -> None:
    item = asked("<image>\nWhat colour?", "red", image=PHOTO)
    *learned_ids, end = answer_ids(processor, item)
    assert end == processor.tokenizer.eos_token_id
    assert processor.answer_ids(item, ["red", "blue", "red"])[::2] == [learned_ids] * 2
    assert processor.tokenizer.decode(processor.answer_ids(item, ["blue"])[0]).strip() == "blue"
    with pytest.raises(DataError, match=r"a:1: expected words to rank, found str ''") as caught:
        processor.answer_ids(item, [""])
    assert caught.value.kind == "blank-text"


def test_an_answer_may_open_with_the_token_that_begins_texts(processor: Processor) -> None:
    ids = processor.tokenizer("It is red", add_special_tokens=False)["input_ids"]
    begin: Any = processor.tokenizer.bos_token_id
    assert begin is not None
    assert [processor.opens(token) for token in (begin, ids[0])] == [True, False]
    assert processor.text([begin, *ids]) == processor.text(ids) == "It is red"
    assert processor.text([]) == processor.text([begin]) == ""


def test_truncation_cuts_and_counts_answers_but_never_images(tokenizer: PreTrainedTokenizerFast, item: Item) -> None:
    whole = make_processor(tokenizer).encode(item, 0)
    length = len(whole.input_ids)
    cut = make_processor(tokenizer, max_length=length - 5).encode(item, 0)
    assert (len(cut.input_ids), cut.cut_tokens, whole.cut_tokens) == (length - 5, 5, 0)
    with pytest.raises(
        DataError,
        match=rf"photos.jsonl:1: max_length: expected at least {whole.images_end}, so that no image is cut, fo",
    ):
        make_processor(tokenizer, max_length=3).encode(item, 0)
    assert make_processor(tokenizer, max_length=whole.images_end).tokens(item).total == length
    assert make_processor(tokenizer, max_length=length).encode(item, 0).cut_tokens == 0


def test_a_box_that_leaves_the_crop_is_clamped_and_one_outside_is_an_error(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    processor = make_processor(tokenizer, placement="crop")
    partly = processor.tokenizer.decode(answer_ids(processor, rec((40, 20), [0, 0, 20, 20])))
    assert "[0.000,0.000,0.500,1.000]" in partly
    with pytest.raises(DataError, match=r"a.jsonl:1: target.boxes\[0\]: expected a box in what the model sees"):
        processor.encode(rec((40, 20), [0, 0, 5, 20]), 0)


def test_user_text_may_hold_anything(processor: Processor) -> None:
    question = "<image>\nWhere is {it} </s> [0.1] %s \\1 {{x}}?"
    prompt = processor.encode(rec((8, 8), [0, 0, 8, 8], question=question), 0, answer=False)
    assert question[len("<image>") :] in processor.tokenizer.decode(prompt.input_ids)
    assert processor.tokenizer.eos_token_id not in prompt.input_ids


def test_a_batch_holds_each_image_once(processor: Processor, item: Item) -> None:
    other = rec((8, 8), [0, 0, 8, 8])
    batch = Collator(pad_token_id=2)([processor.encode(x, n) for n, x in enumerate([item, other, item])])
    assert batch["pixels"].shape == (2, 3, SIDE, SIDE)
    assert batch["image_index"].tolist() == [0, 1, 0]
    assert batch["index"].tolist() == [0, 1, 2]


def test_labelled_rows_are_padded_right_and_prompts_left(processor: Processor, item: Item) -> None:
    longer = rec((8, 8), [0, 0, 8, 8], question="<image>\nWhere is the red circle on the blue square?")
    collate = Collator(pad_token_id=2, pad_to_multiple_of=8)
    rows = collate([processor.encode(item, 0), processor.encode(longer, 1)])
    assert rows["input_ids"].shape[1] % 8 == 0
    assert rows["attention_mask"][0].tolist() == sorted(rows["attention_mask"][0].tolist(), reverse=True)
    assert (rows["labels"][rows["attention_mask"] == 0] == IGNORE).all()
    prompts = collate([processor.encode(x, n, answer=False) for n, x in enumerate([item, longer])])
    assert prompts["attention_mask"][0].tolist() == sorted(prompts["attention_mask"][0].tolist())
    assert "labels" not in prompts


def test_a_text_only_batch_has_no_pixels(processor: Processor) -> None:
    turns = [{"from": "human", "value": "Hello?"}, {"from": "gpt", "value": "Hi."}]
    example = processor.encode(read_item({"conversations": turns}, key="t:1"), 0)
    batch = Collator(pad_token_id=2)([example])
    assert set(batch) == {"input_ids", "attention_mask", "labels", "label_sources", "index"}


def test_the_first_token_is_never_supervised(tokenizer: PreTrainedTokenizerFast) -> None:
    """Nothing predicts it, so it must not count as a labelled token."""
    turns = [{"from": "human", "value": "x"}, {"from": "gpt", "value": "Hi."}]
    processor = make_processor(tokenizer, template="plain")
    example = processor.encode(read_item({"conversations": turns}, key="t:1"), 0)
    assert example.labels is not None
    assert example.labels[0] == IGNORE
    assert torch.equal(example.labels[1:], example.input_ids[1:])


def filled_row(rounds: int) -> Item:
    """A question about an image, and as many more as filling, each about its own image."""
    turns = [
        {"from": "human", "value": "<image>\nWhere is it?"},
        {"from": "gpt", "value": "Answer: <boxes> .", "boxes_seq": [[0]]},
    ]
    shifted = [{**turns[1], "boxes_seq": [[n]]} for n in range(rounds + 1)]
    record = {
        "images": [Image.new("RGB", (20, 20)) for _ in range(rounds + 1)],
        "target": {"boxes": [[0, 0, 9, 9]] * (rounds + 1), "boxes_image": list(range(rounds + 1))},
        "conversations": [turn for answer in shifted for turn in (turns[0], answer)],
    }
    return replace(read_item(record, key="a.jsonl:1"), extra_rounds=rounds)


def test_filling_is_left_out_where_max_length_has_no_room(tokenizer: PreTrainedTokenizerFast) -> None:
    row = filled_row(5)
    free = make_processor(tokenizer)
    lengths = [len(free.encode(row.with_extra_rounds(rounds), 0).input_ids) for rounds in range(6)]
    assert free.fit_to_max_length(row) == row
    for room in (lengths[0] - 1, lengths[0], lengths[2] - 1, lengths[2], lengths[5] + 9):
        processor = make_processor(tokenizer, max_length=room)
        fitted = processor.fit_to_max_length(row)
        expected = max((rounds for rounds in range(6) if lengths[rounds] <= room), default=0)
        assert fitted == row.with_extra_rounds(expected)
        example = processor.encode(fitted, 0)
        assert len(example.images) == len(example.pixels) == expected + 1
        assert len(example.input_ids) <= room
        assert (example.cut_tokens > 0) == (room < lengths[0])


def test_rounds_that_are_no_filling_stay(tokenizer: PreTrainedTokenizerFast) -> None:
    row = replace(filled_row(2), extra_rounds=1)
    processor = make_processor(tokenizer, max_length=8)
    assert len(processor.fit_to_max_length(row).turns) == 4


def test_an_error_names_the_demonstrations_that_may_be_what_is_wrong(processor: Processor) -> None:
    turns = (Turn(role="human", text="<image> What?"), Turn(role="gpt", text=BOXES, boxes_seq=((0,),)))
    box = Box(x1=900, y1=900, x2=950, y2=950)
    item = Item(key="a:1", images=(image_ref(Image.new("RGB", (40, 30))),), turns=turns, boxes=(box,))
    with pytest.raises(DataError, match=r"^a:1: target"):
        processor.tokens(item)
    with pytest.raises(DataError, match=r"^a:1 behind b:1, b:2: target.boxes\[0\]: expected a box in what"):
        processor.tokens(replace(item, demonstrations=("b:1", "b:2")))
