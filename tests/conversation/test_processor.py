from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from transformers import PreTrainedTokenizerFast

from mllm.conversation.collator import Collator
from mllm.conversation.processor import Processor
from mllm.conversation.rendering import IGNORE
from mllm.errors import DataError, ModelError
from mllm.registry import REGIONS, TEMPLATES
from mllm.types import Item
from mllm.views import SquareView
from tests.conftest import make_tokenizer

SIDE, TOKENS = 28, 4


def make_processor(tokenizer: PreTrainedTokenizerFast, **changes: Any) -> Processor:
    codec = REGIONS.make(changes.pop("codec", "shikra"))
    template = TEMPLATES.make(changes.pop("template", "vicuna_v1"))
    placement = changes.pop("placement", "pad")
    mean = std = (0.5, 0.5, 0.5)
    view = SquareView(size=SIDE, mean=mean, std=std, tokens=TOKENS, placement=placement)
    tokenizer.add_tokens([*template.tokens, *codec.tokens], special_tokens=True)
    return Processor(
        tokenizer=tokenizer,
        template=template,
        codec=codec,
        view=changes.pop("view", view),
        **changes,
    )


@pytest.fixture
def processor(tokenizer: PreTrainedTokenizerFast) -> Processor:
    return make_processor(tokenizer)


def rec(size: tuple[int, int], box: list[float], *, question: str = "<image>\nWhere is it?") -> Item:
    record = {
        "image": Image.new("RGB", size),
        "target": {"boxes": [box]},
        "conversations": [
            {"from": "human", "value": question},
            {"from": "gpt", "value": "Answer: <boxes> .", "boxes_seq": [[0]]},
        ],
    }
    return Item.from_dict(record, key="a.jsonl:1")


def answer_ids(processor: Processor, item: Item) -> list[int]:
    example = processor.encode(item, 0)
    assert example.labels is not None
    return [int(label) for label in example.labels if label != IGNORE]


def test_only_answers_are_supervised(processor: Processor, item: Item) -> None:
    """A 40 x 20 photo lies in the middle rows of its square: the box is its right half."""
    text = processor.tokenizer.decode(answer_ids(processor, item))
    assert text == " Answer: [0.500,0.250,1.000,0.750] .</s>"


def test_a_picture_holds_as_many_tokens_as_the_model_has_features(processor: Processor, item: Item) -> None:
    example = processor.encode(item, 3)
    assert (example.input_ids == processor.image_token_id).sum() == TOKENS
    assert example.index == 3
    assert [picture["pixels"].shape for picture in example.pixels] == [(1, 3, SIDE, SIDE)]


class Framed(SquareView):
    token = "<patch>"

    def slot(self, size: tuple[int, int]) -> str:
        return f"<im_start>{self.token * (size[0] // 20)}<im_end>"


def test_a_view_says_what_holds_the_place_of_a_picture(tokenizer: PreTrainedTokenizerFast, item: Item) -> None:
    tokenizer.add_tokens(["<im_start>", "<patch>", "<im_end>"], special_tokens=True)
    view = Framed(size=SIDE, mean=(0.5,) * 3, std=(0.5,) * 3, tokens=1)
    example = make_processor(tokenizer, view=view).encode(item, 0)
    text = tokenizer.decode(example.input_ids).replace(" ", "")
    assert "<im_start><patch><patch><im_end>" in text
    assert "<image>" not in text


def test_a_prompt_is_the_beginning_of_its_training_row(processor: Processor, item: Item) -> None:
    prompt, row = processor.encode(item, 0, answer=False), processor.encode(item, 0)
    assert prompt.labels is None
    assert row.input_ids[: len(prompt.input_ids)].equal(prompt.input_ids)
    assert processor.tokenizer.decode(prompt.input_ids).endswith("ASSISTANT:")


@pytest.mark.parametrize(
    "codec", ["shikra", "bins", "ferret", "minigpt_v2", "kosmos2", "qwen2_vl", "qwen25_vl", "paligemma", "gemini"]
)
@pytest.mark.parametrize("placement", ["pad", "squash", "crop"])
@settings(max_examples=20, deadline=None)
@given(width=st.integers(8, 900), height=st.integers(8, 900), data=st.data())
def test_what_is_written_is_read_back_in_original_pixels(
    codec: str, placement: str, width: int, height: int, data: st.DataObject
) -> None:
    """The whole way there and back, for any picture size: within the codec's bound of its frame, in original pixels."""
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
    ("text", "failure"),
    [
        ("Answer: [0.500,0.250,1.000,0.750] .", None),
        ("it is the right half", "none"),
        ("Answer: [0.5,0.25,1.0 .", "malformed"),
        ("Answer: [0.5,0.25,1.7,0.75] .", "out_of_range"),
        ("Answer: [0.5,0.25,0.75] .", "wrong_count"),
        ("[0.1,0.1,0.2,0.2] or [0.3,0.3,0.4,0.4]", "wrong_count"),
        ("Answer: [0.9,0.25,0.5,0.75] .", "inverted"),
    ],
)
def test_an_unreadable_answer_is_classed(processor: Processor, item: Item, text: str, failure: str | None) -> None:
    ids = processor.tokenizer(text + "</s> and more", add_special_tokens=False)["input_ids"]
    prediction = processor.decode(ids, item, 7)
    assert (prediction.text, prediction.failure, prediction.index) == (text, failure, 7)


def test_a_multi_token_end_is_cut_off(tokenizer: PreTrainedTokenizerFast, item: Item) -> None:
    processor = make_processor(tokenizer, template="llava_v0")
    ids = tokenizer(" [0.5,0.25,1,0.75]\n### Human: more", add_special_tokens=False)["input_ids"]
    assert processor.decode(ids, item, 0).text == "[0.5,0.25,1,0.75]"


def test_truncation_cuts_and_counts_answers_but_never_pictures(tokenizer: PreTrainedTokenizerFast, item: Item) -> None:
    whole = make_processor(tokenizer).encode(item, 0)
    length = len(whole.input_ids)
    cut = make_processor(tokenizer, max_length=length - 5).encode(item, 0)
    assert (len(cut.input_ids), cut.cut_tokens, whole.cut_tokens) == (length - 5, 5, 0)
    with pytest.raises(
        DataError, match=r"photos.jsonl:1: max_length: expected at least \d+, so that no picture is cut, found 3"
    ):
        make_processor(tokenizer, max_length=3).encode(item, 0)


def test_a_box_that_leaves_the_crop_is_clamped_and_one_outside_is_an_error(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    processor = make_processor(tokenizer, placement="crop")
    partly = processor.tokenizer.decode(answer_ids(processor, rec((40, 20), [0, 0, 20, 20])))
    assert "[0.000,0.000,0.500,1.000]" in partly
    with pytest.raises(DataError, match=r"a.jsonl:1: expected a box in what the model sees of its picture, found"):
        processor.encode(rec((40, 20), [0, 0, 5, 20]), 0)


def test_user_text_may_hold_anything(processor: Processor) -> None:
    question = "<image>\nWhere is {it} </s> [0.1] %s \\1 {{x}}?"
    prompt = processor.encode(rec((8, 8), [0, 0, 8, 8], question=question), 0, answer=False)
    assert question[len("<image>") :] in processor.tokenizer.decode(prompt.input_ids)
    assert processor.tokenizer.eos_token_id not in prompt.input_ids


def test_a_template_that_loses_a_picture_is_an_error(processor: Processor, item: Item) -> None:
    processor.template = TEMPLATES.make("vicuna_v1")
    dropping = processor.template.render
    processor.template.render = lambda turns, tokenizer: [  # type: ignore[method-assign]
        piece for piece in dropping(turns, tokenizer) if piece.text != "<image>"
    ]
    with pytest.raises(ModelError, match="0 <image> for 1 picture"):
        processor.encode(item, 0)


def test_a_batch_holds_each_picture_once(processor: Processor, item: Item) -> None:
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
    example = processor.encode(Item.from_dict({"conversations": turns}, key="t:1"), 0)
    batch = Collator(pad_token_id=2)([example])
    assert set(batch) == {"input_ids", "attention_mask", "labels", "cut_answers", "index"}


def test_the_first_token_is_never_supervised(tokenizer: PreTrainedTokenizerFast) -> None:
    """Nothing predicts it, so it must not count as a labelled token."""
    turns = [{"from": "human", "value": "x"}, {"from": "gpt", "value": "Hi."}]
    processor = make_processor(tokenizer, template="plain")
    example = processor.encode(Item.from_dict({"conversations": turns}, key="t:1"), 0)
    assert example.labels is not None
    assert example.labels[0] == IGNORE
    assert torch.equal(example.labels[1:], example.input_ids[1:])


def filled_row(rounds: int) -> Item:
    """A question about a picture, and as many more as filling, each about its own picture."""
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
    return replace(Item.from_dict(record, key="a.jsonl:1"), filling=rounds)


def test_filling_is_left_out_where_max_length_has_no_room(tokenizer: PreTrainedTokenizerFast) -> None:
    row = filled_row(5)
    free = make_processor(tokenizer)
    lengths = [len(free.encode(row.filled(rounds), 0).input_ids) for rounds in range(6)]
    assert free.fitted(row) == row
    for room in (lengths[0] - 1, lengths[0], lengths[2] - 1, lengths[2], lengths[5] + 9):
        processor = make_processor(tokenizer, max_length=room)
        fitted = processor.fitted(row)
        expected = max((rounds for rounds in range(6) if lengths[rounds] <= room), default=0)
        assert fitted == row.filled(expected)
        example = processor.encode(fitted, 0)
        assert len(example.images) == len(example.pixels) == expected + 1
        assert len(example.input_ids) <= room
        assert (example.cut_tokens > 0) == (room < lengths[0])


def test_rounds_that_are_no_filling_stay(tokenizer: PreTrainedTokenizerFast) -> None:
    row = replace(filled_row(2), filling=1)
    processor = make_processor(tokenizer, max_length=8)
    assert len(processor.fitted(row).turns) == 4
