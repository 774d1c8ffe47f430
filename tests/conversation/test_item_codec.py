"""Regions on several images: said by name before them, in prompts and answers, and read from there."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from mllm.conversation.codec_base import Reading, RegionCodec
from mllm.conversation.item_codec import ItemCodec
from mllm.conversation.pixels import PixelCodec
from mllm.conversation.rendering import IGNORE
from mllm.errors import DataError
from mllm.geometry import place
from mllm.metrics.boxes_f1 import BoxesF1
from mllm.metrics.temporal_iou import TemporalIoU
from mllm.records import read_item
from mllm.registry import CODECS
from mllm.serve.question import as_messages, to_item
from mllm.serve.reading import read_answer_text
from mllm.types import Item
from tests.conftest import make_tokenizer
from tests.conversation.processors import make_processor
from tests.models.tiny_hf import build, save_tiny

SIZES = [(100, 50), (60, 60), (40, 80)]
BOXES = [[10, 10, 50, 40], [6, 12, 30, 48], [4, 8, 36, 72], [60, 5, 90, 45]]
ON = [0, 1, 2, 0]
FAMILIES = ("shikra", "bins", "ferret", "qwen_vl", "qwen2_vl", "qwen25_vl", "qwen3_vl", "internvl", "paligemma",
            "florence2", "kosmos2", "minigpt_v2", "cogvlm", "llava15", "gemini")  # fmt: skip


def item_of(*groups: list[int], question: str = "<image><image>\nLike <image>?", **turn: Any) -> Item:
    record = {
        "images": [Image.new("RGB", size) for size in SIZES],
        "target": {"boxes": BOXES, "boxes_image": ON, "points": [[5, 5], [7, 7]], "points_image": [1, 2]},
        "conversations": [
            {"from": "human", "value": question, **turn},
            {"from": "gpt", "value": " and ".join(["<boxes>"] * len(groups)), "boxes_seq": list(groups)},
        ],
    }
    return read_item(record, key="a:1")


def codec_of(name: str, item: Item, *, numbers: bool = True) -> tuple[RegionCodec, ItemCodec]:
    codec = CODECS.make(name)

    def on(image: int) -> PixelCodec:
        return PixelCodec(codec, place("pad", item.images[image].size, 200), image=image)

    return codec, ItemCodec(codec, item, on, numbers=numbers)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_group_over_several_images_reads_as_it_was_written(name: str) -> None:
    item = item_of([0, 1, 2, 3])
    codec, several = codec_of(name, item)
    text = several.write("<boxes>", (0, 3, 2, 1, 0))
    assert text.count(several.leads[0]) == 2, text  # neighbours on one image share its name
    reader = several.of_answer()
    assert reader is not None
    read = reader.read_answer(f"They are {text}.")
    assert read.failure is None
    assert [box.image for box in read.boxes] == [0, 0, 2, 1, 0]
    for box, number in zip(read.boxes, (0, 3, 2, 1, 0), strict=True):
        assert box.xyxy == pytest.approx(BOXES[number], abs=codec.error((200, 200)) * 100 + 4)


def test_each_family_calls_images_as_its_prompts_do() -> None:
    item = item_of([1])
    assert codec_of("qwen3_vl", item)[1].leads == ("Picture 1: ", "Picture 2: ", "Picture 3: ")
    assert codec_of("internvl", item)[1].leads[1] == "Image-2: "
    assert codec_of("ferret", item)[1].leads[2] == "image 3: "
    assert codec_of("ferret", item, numbers=False)[1].leads == ()


def test_a_single_image_has_no_name() -> None:
    turns = [{"from": "human", "value": "<image>?"}]
    alone = read_item({"image": Image.new("RGB", (9, 9)), "conversations": turns}, key="a:1")
    assert codec_of("ferret", alone)[1].leads == ()


def test_write_writes_regions_of_one_image_where_images_have_no_names() -> None:
    codec = codec_of("ferret", item_of([0]), numbers=False)[1]
    assert codec.write("<boxes>", (0, 3)) == "[100, 200, 500, 800], [600, 100, 900, 900]"
    assert codec.write("<points>", (0,)) == "[83, 83]"


def test_write_names_the_region_that_lies_outside_of_its_image() -> None:
    item = item_of([0])
    outside = replace(item, boxes=(item.boxes[0], replace(item.boxes[1], x1=70, x2=90)))
    with pytest.raises(DataError, match=r"target\.boxes\[1\]: expected a box in what the model sees of its image"):
        codec_of("ferret", outside)[1].write("<boxes>", (0, 1))


@pytest.mark.parametrize(("before", "lead"), [("image 2: ", 9), ("(image 2) ", 9), ("image 2 shows ", 0), ("", 0)])
def test_place_tells_how_many_characters_before_a_group_name_its_image(before: str, lead: int) -> None:
    several, text = codec_of("ferret", item_of([0]))[1], f"{before}[1, 2, 3, 4]"
    reading = Reading(boxes=((0.1, 0.1, 0.2, 0.2),), span=(len(before), len(text)))
    (placed,) = several.place(text, [reading])
    assert (placed.image, placed.lead) == (1 if before else None, lead)
    unplaced = replace(reading, span=None)
    assert several.place(text, [unplaced, reading]) == [unplaced, placed]


ANSWERS = [
    ("Picture 2: [100, 200, 500, 800]", [1], None),
    ("the dog of image-3 at [100, 200, 500, 800], [1, 2, 3, 4]; and <IMG 1> [9, 9, 10, 10]", [2, 2, 0], None),
    ("[100, 200, 500, 800] as in image 2", [0], None),  # named too late: that of the question
    ("image two: [100, 200, 500, 800]", [0], None),
    ("image 4: [100, 200, 500, 800]. image 2: [100, 200, 500, 800]", [1], "out_of_range"),
    ("image 0: [100, 200, 500, 800]", [], "out_of_range"),
    ("image 2: [100, 200, 500", [], "malformed"),
    ("There is an image 7 too. None.", [], None),
]


@pytest.mark.parametrize(("text", "images", "failure"), ANSWERS)
def test_an_answer_is_read_on_the_image_that_it_names_last(text: str, images: list[int], failure: str | None) -> None:
    reader = codec_of("ferret", item_of([0]))[1].of_answer()
    assert reader is not None
    read = reader.read_answer(text)
    assert ([box.image for box in read.boxes], read.failure) == (images, failure)


def test_a_name_inside_a_form_names_nothing() -> None:
    reader = codec_of("qwen3_vl", item_of([0]))[1].of_answer()
    assert reader is not None
    listed = '[{"bbox_2d": [1, 2, 30, 40], "label": "picture 3"}, {"bbox_2d": [5, 6, 70, 80]}]'
    text = f'Picture 2: {listed} {{"bbox_2d": [1, 1, 9, 9]}}'
    assert [box.image for box in reader.read_answer(text).boxes] == [1, 1, 1]


def test_pixels_are_those_of_the_image_that_is_named() -> None:
    """Qwen2.5-VL writes pixels of the resized image: 70 is outside of the first image's height, inside the third's."""
    item = item_of([2])
    codec = CODECS.make("qwen25_vl")

    def on(image: int) -> PixelCodec:
        return PixelCodec(codec, place("squash", item.images[image].size, 50 if image == 0 else 400), image=image)

    reader = ItemCodec(codec, item, on, numbers=True).of_answer()
    assert reader is not None
    read = reader.read_answer('Picture 3: {"bbox_2d": [40, 40, 360, 360]}')
    assert [box.xyxy for box in read.boxes] == [pytest.approx((4, 8, 36, 72))]
    assert read.failure is None


def test_without_numbers_a_group_over_several_images_is_refused() -> None:
    expected = r"target\.boxes: expected regions on one image, found some on each of the images 0, 1; give each"
    with pytest.raises(DataError, match=expected) as caught:
        codec_of("shikra", item_of([0, 1]), numbers=False)[1].write("<boxes>", (0, 1))
    assert caught.value.kind == "image-number"


def test_a_processor_trains_prompts_and_scores_on_all_images() -> None:
    processor = make_processor(make_tokenizer(), codec="ferret", image_numbers=True)
    item = item_of([0], [2, 1])
    ids = processor.tokens(item)
    words = processor.tokenizer.decode([label for label in ids.labels if label != IGNORE])
    whole = processor.tokenizer.decode(ids.ids)
    assert whole.index("image 1:") < whole.index("image 2:") < whole.index("Like image 3:")
    assert "image 3: [" in words
    assert "; image 2: [" in words
    answer = processor.read(words.removesuffix("</s>"), item, 0)
    assert [box.image for box in answer.boxes] == [0, 2, 1]
    processor.check_truth(item)
    scores = BoxesF1(labels=False)([answer])
    assert scores["micro_f1@0.5"] == 1
    moved = processor.read(words.replace("image 3", "image 2").removesuffix("</s>"), item, 0)
    assert [box.image for box in moved.boxes] == [0, 1, 1]
    assert BoxesF1(labels=False)([moved])["micro_f1@0.5"] < 1
    assert abs(processor.length(item).tokens - len(ids.ids)) <= 6


def test_a_prompt_is_a_prefix_of_what_is_trained() -> None:
    processor = make_processor(make_tokenizer(), codec="internvl", image_numbers=True, template="vicuna_v1")
    item = item_of([0, 2])
    prompt, trained = processor.encode(item, 0, answer=False), processor.encode(item, 0)
    assert trained.input_ids[: len(prompt.input_ids)].tolist() == prompt.input_ids.tolist()
    alone = make_processor(make_tokenizer(), codec="internvl", template="vicuna_v1")
    with pytest.raises(DataError, match=r"a:1: target\.boxes: expected regions on one image"):
        alone.encode(item, 0)


@pytest.mark.parametrize("template", ["plain", "otter", "openflamingo"])
def test_names_go_with_images_that_a_template_puts_first(template: str) -> None:
    processor = make_processor(make_tokenizer(), codec="ferret", image_numbers=True, template=template)
    whole = processor.tokenizer.decode(processor.tokens(item_of([0])).ids)
    assert [whole.index(f"image {number}:") for number in (1, 2, 3)] == sorted(
        whole.index(f"image {number}:") for number in (1, 2, 3)
    )
    assert whole.index("image 3:") < (whole.find("Like") if "Like" in whole else len(whole))


def test_a_served_answer_goes_on_as_a_turn_that_is_written_the_same() -> None:
    processor = make_processor(make_tokenizer(), codec="ferret", image_numbers=True)
    item = item_of([0])
    question = to_item(as_messages(item)[:1])
    answer = read_answer_text(processor, question, "The dog image 2: [100, 200, 500, 800] and image 3: [1, 2, 30, 40].")
    assert [(region.image, region.label) for region in answer.regions] == [(1, "The dog"), (2, None)]
    assert answer.message.text == "The dog <boxes> and <boxes>."
    assert answer.draw(1).size == SIZES[1]


def video_of(times: list[float], *, said: str = "<boxes>", **target: Any) -> Item:
    record = {
        "video": {"frames": [Image.new("RGB", (100, 50)) for _ in times], "times": times},
        "target": target,
        "conversations": [
            {"from": "human", "value": "<video>\nWhere?"},
            {"from": "gpt", "value": said, **({"boxes_seq": [[0, 1]]} if "boxes" in target else {"spans_seq": [[0]]})},
        ],
    }
    return read_item(record, key="a:1")


@pytest.mark.parametrize(
    ("times", "leads"),
    [
        ([0, 0.5, 1], ["0.0 s: ", "0.5 s: ", "1.0 s: "]),
        ([0, 0.04, 0.08], ["0.00 s: ", "0.04 s: ", "0.08 s: "]),
        ([1, 1.001], ["1.000 s: ", "1.001 s: "]),
        ([3], ["3.0 s: "]),
    ],
)
def test_frames_are_called_by_their_times(times: list[float], leads: list[str]) -> None:
    codec = codec_of("ferret", video_of(times, said="<spans>", spans=[[0, 1]]), numbers=False)[1]
    assert list(codec.leads) == leads
    assert codec.names == (codec.leads if len(times) > 1 else ())


def test_boxes_on_frames_read_back_on_the_frame_of_the_time_that_is_said() -> None:
    item = video_of([0, 2.5, 5], boxes=[[10, 10, 50, 40], [20, 10, 60, 40]], boxes_time=[5, 2.4])
    several = codec_of("qwen3_vl", item, numbers=False)[1]
    text = several.write("<boxes>", (0, 1))
    assert text.startswith('<5.0 seconds>{"bbox_2d"')
    reader = several.of_answer()
    assert reader is not None
    assert [box.image for box in reader.read_answer(text).boxes] == [2, 1]
    said = '{"bbox_2d": [100, 200, 500, 800]}'
    for words, image in (("At 2 seconds", 1), ("6.9 s:", 2), ("frame 3", 2), ("", 0)):
        assert [box.image for box in reader.read_answer(f"{words} {said}").boxes] == [image]
    assert reader.read_answer(f"At 9 seconds {said}").failure == "out_of_range"


def test_a_time_before_the_first_frame_means_it_unless_it_is_further_than_frames_are_apart() -> None:
    reader = codec_of("ferret", video_of([10, 12], spans=[[10, 11]], said="<spans>"), numbers=False)[1].of_answer()
    assert reader is not None
    assert [box.image for box in reader.read_answer("9 s: [1, 2, 3, 4]").boxes] == [0]
    assert reader.read_answer("7.9 s: [1, 2, 3, 4]").failure == "out_of_range"


def test_a_processor_trains_and_reads_moments() -> None:
    processor = make_processor(make_tokenizer(), codec="qwen3_vl")
    item = video_of([0, 1, 2], said="It is <spans>.", spans=[[0.5, 1.5]])
    tokens = processor.tokens(item)
    whole = processor.tokenizer.decode(tokens.ids)
    assert whole.index("<0.0 seconds>") < whole.index("<1.0 seconds>") < whole.index("<2.0 seconds>")
    words = processor.tokenizer.decode([label for label in tokens.labels if label != IGNORE])
    assert words.strip() == "It is 0.5 to 1.5 seconds.</s>"
    read = processor.read(words.removesuffix("</s>"), item, 0)
    assert (read.time_spans, read.time_failure, read.boxes) == (item.truth.time_spans, None, ())
    assert TemporalIoU()([read])["R1@0.7"] == 1
    assert processor.length(item).tokens == len(tokens.ids)
    prompt = processor.encode(item, 0, answer=False)
    assert tokens.ids[: len(prompt.input_ids)] == prompt.input_ids.tolist()
    assert len(processor.images(item)) == 3


@pytest.mark.parametrize(
    ("family", "images", "frames"),
    [
        (
            "qwen3_vl",
            "Picture 1: <|vision_start|>I<|vision_end|>Picture 2: <|vision_start|>I<|vision_end|>",
            "<0.0 seconds><|vision_start|>I<|vision_end|><0.5 seconds><|vision_start|>I<|vision_end|>",
        ),
        ("internvl", "Image-1: <img>I</img>\nImage-2: <img>I</img>", "0.0 s: <img>I</img>\n0.5 s: <img>I</img>"),
    ],
)
def test_a_family_of_transformers_names_images_inside_its_chat_template(
    family: str, images: str, frames: str, tmp_path: Path
) -> None:
    _, processor = build(str(save_tiny(family, tmp_path)))
    processor.renderer.image_numbers = True
    turns = [{"from": "human", "value": "<image><image>\nWhere?"}, {"from": "gpt", "value": "There."}]
    two = read_item({"images": [Image.new("RGB", (64, 64))] * 2, "conversations": turns}, key="a:1")
    for item, names in ((two, images), (video_of([0, 0.5], said="<spans>", spans=[[0, 1]]), frames)):
        whole = processor.tokenizer.decode(processor.tokens(item).ids)
        assert names in re.sub(rf"(?:{re.escape(processor.view.token)})+", "I", whole)
