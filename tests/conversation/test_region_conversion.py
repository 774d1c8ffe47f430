from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mllm.conversation.codec_base import Reading, UnitBox
from mllm.conversation.convention import Convention, ConversionError, read_convention
from mllm.conversation.region_conversion import Lifting, find, lift_item, rewrite
from mllm.errors import ConfigError
from mllm.geometry import Placement, PlacementKind, place
from mllm.records import read_item
from mllm.registry import CODECS
from mllm.types import Box, Item, Turn


def convention(name: str, kind: PlacementKind = "pad", side: int = 1000) -> Convention:
    return Convention(name=name, codec=CODECS.make(name), placement=lambda size: place(kind, size, side))


SQUARE = (1000, 1000)
WIDE = (1000, 500)


@pytest.mark.parametrize(
    ("source", "target", "text", "expected"),
    [
        ("shikra", "ferret", "It is [0.100,0.300,0.500,0.700] .", "It is [100, 100, 500, 900] ."),
        ("ferret", "shikra", "It is [100, 100, 500, 900] .", "It is [0.100,0.300,0.500,0.700] ."),
        ("shikra", "qwen3_vl", "at [0.100,0.300]!", 'at {"point_2d": [100, 100]}!'),
        ("shikra", "gemini", "[0.1,0.3,0.5,0.7]", '{"box_2d": [100, 100, 900, 500]}'),
        ("internvl", "kosmos2", "<ref>a dog</ref><box>[[0, 0, 1000, 1000]]</box> runs",
         "a dog <object><patch_index_0000><patch_index_1023></object> runs"),
        ("qwen3_vl", "llava15", '```json\n[{"bbox_2d": [0, 0, 1000, 1000], "label": "dog"}]\n```',
         "dog [0.00, 0.25, 1.00, 0.75]"),
        ("paligemma", "shikra", "<loc0256><loc0000><loc0767><loc1023> cat ; <loc0256><loc0000><loc0767><loc1023> dog",
         "[0.000,0.250,1.000,0.750] cat ; [0.000,0.250,1.000,0.750] dog"),
        ("shikra", "ferret", "2 dogs {and} <b>", "2 dogs {and} <b>"),
    ],
)  # fmt: skip
def test_regions_change_their_form_and_frame_and_words_stay(source: str, target: str, text: str, expected: str) -> None:
    """A 1000 x 500 image lies in the middle half of its padded square."""
    found = rewrite(text, lambda: WIDE, source=convention(source), target=convention(target))
    written, groups = found.text, found.groups
    assert written == expected
    assert groups == (text != expected) * (2 if ";" in text and source == "paligemma" else 1)


def test_each_codec_has_its_own_canvas() -> None:
    target = convention("qwen25_vl", "squash", 500)
    written = rewrite("[0.100,0.300,0.500,0.700]", lambda: WIDE, source=convention("shikra"), target=target).text
    assert written == '{"bbox_2d": [50, 50, 250, 450]}'


@settings(max_examples=30, deadline=None)
@given(
    size=st.tuples(st.integers(8, 2000), st.integers(8, 2000)),
    names=st.permutations(["shikra", "bins", "ferret", "qwen2_vl", "qwen25_vl", "florence2", "paligemma", "gemini"]),
    kinds=st.tuples(st.sampled_from(["pad", "squash"]), st.sampled_from(["pad", "squash"])),
    corners=st.tuples(*[st.floats(0, 1)] * 4),
)
def test_a_box_stays_where_it_is_within_both_bounds(
    size: tuple[int, int], names: list[str], kinds: tuple[PlacementKind, PlacementKind], corners: tuple[float, ...]
) -> None:
    """In original pixels: what both readings are apart is at most what one writing may move it."""
    source, target = convention(names[0], kinds[0]), convention(names[1], kinds[1])
    (x1, x2), (y1, y2) = sorted(corners[::2]), sorted(corners[1::2])
    start, end = source.on(size).frame, target.on(size).frame
    left, top = (max(0.0, min(1.0, value)) for value in start.to_unit(x1 * size[0], y1 * size[1]))
    right, bottom = (max(0.0, min(1.0, value)) for value in start.to_unit(x2 * size[0], y2 * size[1]))
    text = source.codec.write_boxes([(left, top, right, bottom)], start.canvas)
    found = rewrite(text, lambda: size, source=source, target=target)
    written, groups = found.text, found.groups
    (before,), (after,) = source.codec.read(text, start.canvas), target.codec.read(written, end.canvas)
    assert groups == 1
    pixels = zip(_pixels(before.boxes[0], start), _pixels(after.boxes[0], end), strict=True)
    for place_, (was, now) in enumerate(pixels):
        axis = place_ % 2
        inside = min(max(was, 0.0), float(size[axis]))
        bound = target.codec.error(end.canvas) * end.canvas[axis] / end.scale[axis]
        assert now == pytest.approx(inside, abs=bound + 1e-6)


def _pixels(box: UnitBox, frame: Placement) -> tuple[float, ...]:
    return *frame.from_unit(box[0], box[1]), *frame.from_unit(box[2], box[3])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("see [0.1,0.2,0.3]", r"'\[0.1,0.2,0.3\]': shikra cannot read it: wrong_count"),
        ("[0.1,0.2,0.3,0.4] [0.9,0.2,0.3,0.4]", r"'\[0.9,0.2,0.3,0.4\]': shikra cannot read it: inverted"),
        ("[0.1,0.3,0.3,1.4]", r"'\[0.1,0.3,0.3,1.4\]': shikra cannot read it: out_of_range"),
        ("[0.1,0.0,0.3,0.1]", r"'\[0.1,0.0,0.3,0.1\]': shikra cannot read it: out_of_range"),  # in the padding
        ("[0.1,0.1]", r"'\[0.1,0.1\]': shikra cannot read it: out_of_range"),
    ],
)
def test_what_has_no_equal_is_named(text: str, message: str) -> None:
    with pytest.raises(ConversionError, match=message):
        rewrite(text, lambda: WIDE, source=convention("shikra"), target=convention("ferret"))


def test_a_target_without_points_is_named() -> None:
    with pytest.raises(ConfigError, match="codec 'llava15' cannot write points"):
        rewrite("[0.1,0.5]", lambda: SQUARE, source=convention("shikra"), target=convention("llava15"))


def test_a_region_outside_of_the_frame_of_the_target_is_named() -> None:
    """Of a wide image the crop leaves the middle half."""
    source, target = convention("ferret"), convention("shikra", "crop")
    for text, region in (
        ("[0, 0, 100, 1000]", r"box \[0\.0, 0\.0, 100\.0, 500\.0\]"),
        ("[100, 500]", r"point \[100\.0, 250\.0\]"),
    ):
        with pytest.raises(ConversionError, match=f"{region} lies outside the frame of shikra") as caught:
            rewrite(text, lambda: WIDE, source=source, target=target)
        assert caught.value.kind == "unseen-region"


def test_a_codec_that_does_not_say_where_its_regions_stand_is_refused() -> None:
    source = convention("ferret")
    silent: Any = type("Silent", (), {"frame": "image", "read": lambda self, text, size: [Reading(failure="inverted")]})
    with pytest.raises(ConfigError, match="codec 'ferret' does not give the position of its regions"):
        rewrite("x", lambda: WIDE, source=replace(source, codec=silent()), target=source)


def test_regions_are_on_the_first_image_unless_another_is_given() -> None:
    source = convention("ferret")
    assert [group.boxes[0].image for group in find("[0, 0, 1, 1]", lambda: WIDE, source)] == [0]
    assert [group.boxes[0].image for group in find("[0, 0, 1, 1]", lambda: WIDE, source, image=2)] == [2]
    lifting = Lifting(source, [Box(x1=0, y1=0, x2=1, y2=1)])
    said = Turn(role="gpt", text="<boxes>, [0, 0, 1000, 1000]", boxes_seq=((0,),))
    lifted = lifting.turn(said, lambda: WIDE)
    assert (lifted.text, lifted.boxes_seq, lifting.boxes[1].image) == ("<boxes>, <boxes>", ((0,), (1,)), 0)


def test_a_size_is_asked_for_only_where_there_are_regions() -> None:
    def size() -> tuple[int, int]:
        raise AssertionError("not needed")

    found = rewrite("7 dogs", size, source=convention("shikra"), target=convention("ferret"))
    assert (found.text, found.groups, found.rest) == ("7 dogs", 0, "7 dogs")


@pytest.mark.parametrize(
    ("source", "text", "expected"),
    [
        ("internvl", "Where is <ref>the dog</ref>?", "Where is the dog?"),
        ("internvl", "<ref>a dog</ref><box>[[0, 0, 5, 5]]</box> and <REF>a cat</ref>", "a dog [0, 0, 5, 5] and a cat"),
        ("qwen2_vl", "Where is <|object_ref_start|>it<|object_ref_end|>?", "Where is it?"),
        ("kosmos2", "<phrase>a dog</phrase> runs", "a dog runs"),
        ("qwen3_vl", "a <ref>tag</ref>", "a <ref>tag</ref>"),
    ],
)  # fmt: skip
def test_marks_of_phrases_are_dropped(source: str, text: str, expected: str) -> None:
    written = rewrite(text, lambda: SQUARE, source=convention(source), target=convention("ferret")).text
    assert written == expected


def test_an_answer_is_rewritten_from_its_bare_form_and_cut_off_at_the_edge() -> None:
    source, target = convention("internvl"), convention("ferret")
    text = "It is [[0, 0, 500, 1010]]."
    assert rewrite(text, lambda: SQUARE, source=source, target=target).text == text
    found = rewrite(text, lambda: SQUARE, source=source, target=target, answer=True)
    assert (found.text, found.groups, found.rest) == ("It is [[0, 0, 500, 1000]].", 1, "It is [].")
    marked = "<box>[[0, 0, 500, 1010]]</box>"
    with pytest.raises(ConversionError, match="internvl cannot read it: out_of_range"):
        rewrite(marked, lambda: SQUARE, source=source, target=target)
    assert rewrite(marked, lambda: SQUARE, source=source, target=target, answer=True).text == "[0, 0, 500, 1000]"


def talk(*texts: str, images: int = 1, **record: Any) -> Item:
    """A conversation about images of 1000 x 500 pixels."""
    turns = [{"from": ("human", "gpt")[n % 2], "value": text} for n, text in enumerate(texts)]
    turns[0]["value"] = "<image>" * images + turns[0]["value"]
    record = {"images": [Image.new("RGB", WIDE)] * images, "conversations": turns, **record}
    return read_item(record, key="a.jsonl:1")


def regions_of(item: Item) -> list[tuple[float, ...]]:
    return [box.xyxy for box in item.boxes] + [point.xy for point in item.points]


@pytest.mark.parametrize(
    ("name", "texts", "lifted", "regions"),
    [
        (
            "internvl",
            ("Where is <ref>the dog</ref>?", "<ref>the dog</ref><box>[[100, 200, 500, 400]]</box>"),
            ("<image>Where is the dog?", "the dog <boxes>"),
            [(100, 100, 500, 200)],
        ),
        (
            "qwen2_vl",
            ("And <|box_start|>(0,0),(1000,1000)<|box_end|>?", "A <|box_start|>(1,2)<|box_end|>."),
            ("<image>And <boxes>?", "A <points>."),
            [(0, 0, 1000, 500), (1, 1)],
        ),
        (
            "qwen_vl",
            ("?", "<box>(0,0),(999,999)</box><box>(0,0),(0,0)</box>"),
            ("<image>?", "<boxes>"),
            [(0, 0, 1000, 500), (0, 0, 0, 0)],
        ),
        ("shikra", ("?", "it [0.100,0.300,0.500,0.700] runs"), ("<image>?", "it <boxes> runs"), [(100, 50, 500, 450)]),
        ("llava15", ("?", "[0.10, 0.25, 0.50, 0.75]"), ("<image>?", "<boxes>"), [(100, 0, 500, 500)]),
        (
            "qwen3_vl",
            ("?", '```json\n[{"bbox_2d": [0, 0, 1000, 1000], "label": "dog"}]\n```'),
            ("<image>?", "dog <boxes>"),
            [(0, 0, 1000, 500)],
        ),
        ("paligemma", ("?", "<loc0000><loc0000><loc1023><loc1023> x"), ("<image>?", "<boxes> x"), [(0, 0, 1000, 500)]),
        ("internvl", ("7 dogs [1, 2, 3, 4]?", "[[1, 2, 3, 4]]"), ("<image>7 dogs [1, 2, 3, 4]?", "[[1, 2, 3, 4]]"), []),
    ],
)  # fmt: skip
def test_lift_item_makes_typed_regions_of_those_in_the_words(
    name: str, texts: tuple[str, str], lifted: tuple[str, str], regions: list[tuple[float, ...]]
) -> None:
    item = lift_item(talk(*texts), read_convention(name))
    assert tuple(turn.text for turn in item.turns) == lifted
    assert regions_of(item) == [pytest.approx(region, abs=1e-6) for region in regions]
    assert item.truth.texts == (lifted[1],)
    assert len(item.truth.boxes) == sum(len(group) for group in item.turns[1].boxes_seq)


def test_lift_item_keeps_the_regions_that_are_typed() -> None:
    asked = "<image><boxes> or <box>[[0, 0, 100, 100]]</box>, <boxes>?"
    turns = [
        {"from": "human", "value": asked, "boxes_seq": [[1], [0, 1]]},
        {"from": "gpt", "value": "<box>[[0, 0, 200, 200]]</box> <points>", "points_seq": [[0]]},
    ]
    target = {"boxes": [[1, 1, 2, 2], [3, 3, 4, 4]], "points": [[5, 5]]}
    item = lift_item(talk("?", target=target, conversations=turns), convention("internvl"))
    assert [turn.text for turn in item.turns] == ["<image><boxes> or <boxes>, <boxes>?", "<boxes> <points>"]
    assert [turn.boxes_seq for turn in item.turns] == [((1,), (2,), (0, 1)), ((3,),)]
    assert item.turns[1].points_seq == ((0,),)
    assert [box.xyxy for box in item.boxes[2:]] == [(0, 0, 100, 50), (0, 0, 200, 100)]
    assert item.truth.boxes == (item.boxes[3],)


def test_lift_item_keeps_a_truth_of_its_own() -> None:
    item = talk("?", "<box>[[0, 0, 200, 200]]</box>", truth={"texts": ["there"]})
    assert lift_item(item, convention("internvl")).truth == item.truth


def test_lift_item_leaves_text_alone() -> None:
    item = read_item({"conversations": [{"from": "human", "value": "[1, 2, 3, 4] [5]"}]}, key="a:1")
    assert lift_item(item, convention("shikra")) is item


def test_lift_item_puts_regions_on_the_image_of_their_question() -> None:
    box = "<box>[[0, 0, 1000, 1000]]</box>"
    turns = [
        {"from": "human", "value": f"<image>What is {box}?"},
        {"from": "gpt", "value": "A dog."},
        {"from": "human", "value": "<image>And here?"},
        {"from": "gpt", "value": f"There: {box}"},
        {"from": "human", "value": "<image><image>In the last?", "image": 3},
        {"from": "gpt", "value": f"There: {box}"},
    ]
    images = [Image.new("RGB", (width, 100)) for width in (10, 20, 30, 40)]
    record = {"images": images, "conversations": turns}
    item = lift_item(read_item(record, key="a.jsonl:1"), convention("internvl"))
    assert [(box.image, box.x2) for box in item.boxes] == [(0, 10), (1, 20), (3, 40)]


@pytest.mark.parametrize(
    ("item", "message"),
    [
        (
            talk("?", "<box>[[0, 0, 1000, 1001]]</box>"),
            r"a.jsonl:1: conversations\[1\].value: '<box>\[\[0, 0, 1000, 1001\]\]</box>': internvl",
        ),
        (talk("?", "<box>[[0, 0, 10]]</box>"), r"conversations\[1\].value: .*: internvl cannot read it: wrong_count"),
        (talk("<box>[[0, 0, 10", "?"), r"conversations\[0\].value: .*: internvl cannot read it: malformed"),
        (
            talk("?", "<box>[[0, 0, 10, 10]]</box>", images=2),
            r"a.jsonl:1: conversations\[1\].value: expected regions in words on one image, found some in a record of "
            "2; name their image with 'image' in the question's turn",
        ),
    ],
)
def test_lift_item_names_what_it_cannot_read(item: Item, message: str) -> None:
    with pytest.raises(ConversionError, match=message) as caught:
        lift_item(item, convention("internvl"))
    assert caught.value.kind in ("words-region", "image-number")


def test_a_lifted_box_may_reach_into_the_padding() -> None:
    """As one in pixels may reach out of its image: `data check` says so, training cuts it off."""
    (box,) = lift_item(talk("?", "[0.100,0.200,0.500,0.700]"), convention("shikra")).boxes
    assert box.xyxy == pytest.approx((100, -50, 500, 450))
    (box,) = lift_item(talk("?", "[0.100,0.2496,0.500,0.700]"), convention("shikra")).boxes
    assert box.y1 == 0  # rounding


@settings(max_examples=30, deadline=None)
@given(
    name=st.sampled_from(
        ["shikra", "bins", "ferret", "qwen2_vl", "qwen_vl", "internvl", "cogvlm", "florence2", "gemini"]
    ),
    corners=st.tuples(*[st.floats(0, 1)] * 4),
    size=st.tuples(st.integers(8, 2000), st.integers(8, 2000)),
)
def test_a_written_box_is_lifted_within_the_bound(name: str, corners: tuple[float, ...], size: tuple[int, int]) -> None:
    source = convention(name)
    (x1, x2), (y1, y2) = sorted(corners[::2]), sorted(corners[1::2])
    box = Box(x1=x1 * size[0], y1=y1 * size[1], x2=x2 * size[0], y2=y2 * size[1])
    codec = source.on(size)
    lifting = Lifting(source)
    turn = lifting.turn(Turn(role="gpt", text=f"It is {codec.write_boxes([box])} ."), lambda: size)
    assert (turn.text, turn.boxes_seq) == ("It is <boxes> .", ((0,),))
    bound = codec.codec.error(codec.frame.canvas) * max(codec.frame.canvas) / min(codec.frame.scale) + 1e-6
    assert lifting.boxes[0].xyxy == pytest.approx(box.xyxy, abs=bound)
