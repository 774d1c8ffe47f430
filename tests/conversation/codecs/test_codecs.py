"""Each convention by its public source: golden texts, fuller forms, and every failure that it can have."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mllm.conversation.codec_base import RegionCodec, none_text, read_answer
from mllm.conversation.convention import make_convention
from mllm.conversation.pixels import PixelCodec
from mllm.conversation.region_conversion import rewrite
from mllm.geometry import Placement
from mllm.registry import CODECS

SIZE = (1000, 500)
BOX = (0.1234, 0.25, 0.5, 0.75)
OTHER = (0.0, 0.0, 1.0, 1.0)
POINT = (0.1234, 0.75)

BOXES = {
    "shikra": ("[0.123,0.250,0.500,0.750]", "[0.123,0.250,0.500,0.750;0.000,0.000,1.000,1.000]"),
    "bins": (
        "<b_st><bin_123><bin_250><bin_500><bin_750><b_ed>",
        "<b_st><bin_123><bin_250><bin_500><bin_750><b_sep><bin_0><bin_0><bin_1000><bin_1000><b_ed>",
    ),
    "llava15": ("[0.12, 0.25, 0.50, 0.75]", "[0.12, 0.25, 0.50, 0.75], [0.00, 0.00, 1.00, 1.00]"),
    "ferret": ("[123, 250, 500, 750]", "[123, 250, 500, 750], [0, 0, 1000, 1000]"),
    "minigpt_v2": ("{<12><25><50><75>}", "{<12><25><50><75>}<delim>{<0><0><100><100>}"),
    "kosmos2": (
        "<object><patch_index_0259><patch_index_0751></object>",
        "<object><patch_index_0259><patch_index_0751></delimiter_of_multi_objects/>"
        "<patch_index_0000><patch_index_1023></object>",
    ),
    "qwen_vl": ("<box>(123,250),(500,749)</box>", "<box>(123,250),(500,749)</box><box>(0,0),(999,999)</box>"),
    "qwen2_vl": (
        "<|box_start|>(123,250),(500,750)<|box_end|>",
        "<|box_start|>(123,250),(500,750)<|box_end|><|box_start|>(0,0),(1000,1000)<|box_end|>",
    ),
    "qwen25_vl": (
        '{"bbox_2d": [123, 125, 500, 375]}',
        '[{"bbox_2d": [123, 125, 500, 375]}, {"bbox_2d": [0, 0, 999, 499]}]',
    ),
    "qwen3_vl": (
        '{"bbox_2d": [123, 250, 500, 750]}',
        '[{"bbox_2d": [123, 250, 500, 750]}, {"bbox_2d": [0, 0, 1000, 1000]}]',
    ),
    "internvl": (
        "<box>[[123, 250, 500, 750]]</box>",
        "<box>[[123, 250, 500, 750], [0, 0, 1000, 1000]]</box>",
    ),
    "glm": (
        "<|begin_of_box|>[[123, 250, 500, 750]]<|end_of_box|>",
        "<|begin_of_box|>[[123, 250, 500, 750], [0, 0, 1000, 1000]]<|end_of_box|>",
    ),
    "cogvlm": ("[[123,250,500,750]]", "[[123,250,500,750;000,000,999,999]]"),
    "paligemma": (
        "<loc0256><loc0126><loc0767><loc0512>",
        "<loc0256><loc0126><loc0767><loc0512> ; <loc0000><loc0000><loc1023><loc1023>",
    ),
    "florence2": (
        "<loc_123><loc_250><loc_500><loc_750>",
        "<loc_123><loc_250><loc_500><loc_750><loc_0><loc_0><loc_999><loc_999>",
    ),
    "gemini": (
        '{"box_2d": [250, 123, 750, 500]}',
        '[{"box_2d": [250, 123, 750, 500]}, {"box_2d": [0, 0, 1000, 1000]}]',
    ),
}
POINTS = {
    "shikra": ("[0.123,0.750]", "[0.123,0.750;0.000,1.000]"),
    "bins": ("<p_st><bin_123><bin_750><p_ed>", "<p_st><bin_123><bin_750><p_sep><bin_0><bin_1000><p_ed>"),
    "ferret": ("[123, 750]", "[123, 750], [0, 1000]"),
    "qwen_vl": ("<box>(123,749)</box>", "<box>(123,749)</box><box>(0,999)</box>"),
    "qwen2_vl": (
        "<|box_start|>(123,750)<|box_end|>",
        "<|box_start|>(123,750)<|box_end|><|box_start|>(0,1000)<|box_end|>",
    ),
    "qwen25_vl": ('{"point_2d": [123, 375]}', '[{"point_2d": [123, 375]}, {"point_2d": [0, 499]}]'),
    "qwen3_vl": ('{"point_2d": [123, 750]}', '[{"point_2d": [123, 750]}, {"point_2d": [0, 1000]}]'),
    "molmo": (
        '<point x="12.3" y="75.0" alt=""></point>',
        '<points x1="12.3" y1="75.0" x2="0.0" y2="100.0" alt=""></points>',
    ),
    "molmo2": (
        '<points coords="1 1 123 750"></points>',
        '<points coords="1 1 123 750 2 000 1000"></points>',
    ),
    "gemini": ('{"point": [750, 123]}', '[{"point": [750, 123]}, {"point": [1000, 0]}]'),
}


def make(name: str) -> RegionCodec:
    return CODECS.make(name)


def test_every_codec_has_its_golden_text() -> None:
    own = {name for name in CODECS.names() if CODECS.find(name).__module__.startswith("mllm.")}
    assert own == {*BOXES, *POINTS}


@pytest.mark.parametrize(("name", "texts"), BOXES.items(), ids=BOXES)
def test_boxes_are_written_as_the_family_writes_them(name: str, texts: tuple[str, str]) -> None:
    assert make(name).write_boxes([BOX], SIZE) == texts[0]
    assert make(name).write_boxes([BOX, OTHER], SIZE) == texts[1]


@pytest.mark.parametrize(("name", "texts"), POINTS.items(), ids=POINTS)
def test_points_are_written_as_the_family_writes_them(name: str, texts: tuple[str, str]) -> None:
    assert make(name).write_points([POINT], SIZE) == texts[0]
    assert make(name).write_points([POINT, (0.0, 1.0)], SIZE) == texts[1]


SEEN = [
    # texts as they stand in the sources that the codecs name
    ("kosmos2", "An image of<phrase> a snowman</phrase><object><patch_index_0044><patch_index_0863></object>.",
     ["a snowman"], [(0.390625, 0.046875, 0.984375, 0.828125)]),
    ("kosmos2", "<phrase> a fire</phrase><object><patch_index_0005><patch_index_0911></object>",
     ["a fire"], [(0.171875, 0.015625, 0.484375, 0.890625)]),
    ("kosmos2", "<object><patch_index_0033><patch_index_0033></object>", [None], [(1 / 32, 1 / 32, 2 / 32, 2 / 32)]),
    ("qwen_vl", "<ref>the hand</ref><box>(536,509),(588,602)</box>",
     ["the hand"], [(536 / 999, 509 / 999, 588 / 999, 602 / 999)]),
    ("qwen2_vl", "<|object_ref_start|>the eyes<|object_ref_end|><|box_start|>(176,509),(588,602)<|box_end|><|im_end|>",
     ["the eyes"], [(0.176, 0.509, 0.588, 0.602)]),
    ("qwen25_vl", '```json\n[\n\t{"bbox_2d": [100, 50, 200, 250], "label": "a \\"big\\" dog"}\n]\n```',
     ['a "big" dog'], [(0.1, 0.1, 0.2, 0.5)]),
    ("qwen25_vl", 'They are [{"bbox_2d": [100, 50, 200, 250], "label": "cat {1}"}, {"label": "dog", "bbox_2d": '
     '[0, 0, 1000, 500]}].', ["cat {1}, dog"], [(0.1, 0.1, 0.2, 0.5), (0, 0, 1, 1)]),
    ("qwen25_vl", "{'bbox_2d': [100, 50, 200, 250]}", [None], [(0.1, 0.1, 0.2, 0.5)]),
    ("qwen25_vl", '{"bbox_2d": [100, 50, 200, 250], "label": "\\x"}', ["\\x"], [(0.1, 0.1, 0.2, 0.5)]),
    ("qwen3_vl", '{"bbox_2d": [100, 50, 200, 250]}', [None], [(0.1, 0.05, 0.2, 0.25)]),
    ("qwen3_vl", '{"looks": {"colour": "{red", "legs": {}}, "bbox_2d": [100, 50, 200, 250], "label": "dog"}', ["dog"],
     [(0.1, 0.05, 0.2, 0.25)]),
    ("gemini", '[{"box_2d": [50, 100, 250, 200], "looks": {"label": "no"}}, {"box_2d": [0, 0, 1000, 1000]}]', [None],
     [(0.1, 0.05, 0.2, 0.25), (0, 0, 1, 1)]),
    ("qwen3_vl", '{"bbox_2d": [0, 0, 1000, 1000], "label": "man", "parts": [{"bbox_2d": [100, 50, 200, 250], '
     '"label": "hat"}]}', ["man, hat"], [(0, 0, 1, 1), (0.1, 0.05, 0.2, 0.25)]),
    ("gemini", '```json\n[{"box_2d": [50, 100, 250, 200], "label": "x"}]\n```', ["x"], [(0.1, 0.05, 0.2, 0.25)]),
    ("internvl", "<ref>the dog</ref><box>[[100, 50, 200, 250]]</box>", ["the dog"], [(0.1, 0.05, 0.2, 0.25)]),
    ("minigpt_v2", "<p>two dogs</p> {<10><5><20><25>}<delim>{<0><0><100><100>}",
     ["two dogs"], [(0.1, 0.05, 0.2, 0.25), (0, 0, 1, 1)]),
    ("cogvlm", "The dog [[010,005,020,025;000,000,999,999]] runs.",
     [None], [(0.01, 0.005, 0.02, 0.025), (0, 0, 0.999, 0.999)]),
    ("paligemma", "<loc0000><loc0000><loc1023><loc1023> cat ; <loc0000><loc0000><loc1023><loc1023> dog",
     [None, None], [(0, 0, 1, 1), (0, 0, 1, 1)]),
    ("florence2", "cat<loc_0><loc_0><loc_999><loc_999>dog<loc_0><loc_0><loc_499><loc_999>",
     [None, None], [(0.0005, 0.0005, 0.9995, 0.9995), (0.0005, 0.0005, 0.4995, 0.9995)]),
    ("llava15", "[0.21, 0.92, 0.36, 1.0]", [None], [(0.21, 0.92, 0.36, 1.0)]),
    ("ferret", "a dog [100, 50, 200, 250].", [None], [(0.1, 0.05, 0.2, 0.25)]),
]  # fmt: skip


@pytest.mark.parametrize(("name", "text", "labels", "boxes"), SEEN)
def test_the_forms_of_the_sources_are_read(
    name: str, text: str, labels: list[str | None], boxes: list[tuple[float, ...]]
) -> None:
    readings = make(name).read(text, SIZE)
    assert [reading.failure for reading in readings] == [None] * len(labels)
    assert [reading.label for reading in readings] == labels
    read = [box for reading in readings for box in reading.boxes]
    assert len(read) == len(boxes)
    for box, expected in zip(read, boxes, strict=True):
        assert box == pytest.approx(expected)


def test_kosmos2_writes_a_box_on_the_last_edge_into_the_last_cell() -> None:
    edge = "<object><patch_index_1023><patch_index_1023></object>"
    assert make("kosmos2").write_boxes([(1.0, 1.0, 1.0, 1.0)], SIZE) == edge


@pytest.mark.parametrize(
    ("cells", "box"),
    [
        ((0, 1), (0, 0, 2, 1)),  # one row: from edge to edge
        ((0, 32), (0, 0, 1, 2)),
        ((0, 33), (0.5, 0.5, 1.5, 1.5)),
        ((1, 32), None),  # the second lies to the left
        ((32, 1), None),  # and here above
    ],
)
def test_kosmos2_reads_cells_by_their_rows_and_columns(cells: tuple[int, int], box: tuple[float, ...] | None) -> None:
    (reading,) = make("kosmos2").read("<object>" + "".join(f"<patch_index_{n:04d}>" for n in cells) + "</object>", SIZE)
    assert reading.boxes == (() if box is None else (tuple(value / 32 for value in box),))
    assert reading.failure == (None if box else "inverted")


def test_bins_are_read_without_their_marks() -> None:
    codec = CODECS.make({"type": "bins", "bins": 33})
    assert codec.error(SIZE) == pytest.approx(0.5 / 32, abs=2e-9)
    (box,) = codec.read("It is <bin_0><bin_8><bin_16><bin_32>.", SIZE)
    assert (box.boxes, box.span) == (((0, 0.25, 0.5, 1),), (6, 36))
    (point,) = codec.read("<bin_8> <bin_32>", SIZE)
    assert point.points == ((0.25, 1),)


def test_minigpt_v2_is_read_without_its_braces() -> None:
    (box,) = make("minigpt_v2").read("It is <10><20><30><40>.", SIZE)
    assert (box.boxes, box.failure) == (((0.1, 0.2, 0.3, 0.4),), None)
    (two,) = make("minigpt_v2").read("<10><20>", SIZE)
    assert (two.points, two.failure) == ((), "wrong_count")


def test_codecs_of_json_say_that_nothing_is_with_an_empty_list() -> None:
    assert [none_text(make(name)) for name in ("qwen25_vl", "qwen3_vl", "gemini")] == ["[]"] * 3


@pytest.mark.parametrize("name", ["ferret", "qwen2_vl", "qwen3_vl", "internvl", "glm", "gemini"])
def test_numbers_in_the_middle_between_two_thousandths_are_within_the_bound(name: str) -> None:
    box = (0.0005, 0.0015, 0.5005, 0.9995)
    (reading,) = make(name).read(make(name).write_boxes([box], SIZE), SIZE)
    assert all(abs(read - value) <= make(name).error(SIZE) for read, value in zip(reading.boxes[0], box, strict=True))


@pytest.mark.parametrize(("name", "scale"), [("molmo", 100), ("molmo2", 1000)])
def test_bare_points_are_in_the_scale_of_the_form(name: str, scale: int) -> None:
    (reading,) = read_answer(make(name), f"({scale / 4}, {scale})", SIZE)
    assert (reading.points, reading.bare) == (((0.25, 1),), True)
    (box,) = read_answer(make(name), f"[0, 0, {scale}, {scale}]", SIZE)
    assert (box.points, box.failure) == ((), "malformed")


CORNER, FIRST = "<loc0000><loc0000><loc1023><loc1023>", "<loc_0><loc_0><loc_499><loc_999>"


@pytest.mark.parametrize(
    ("name", "text", "labels"),
    [
        ("paligemma", f"{CORNER} black cat ; {CORNER} dog", ["black cat", "dog"]),
        ("paligemma", f"{CORNER} ; {CORNER} dog.\n", ["dog", "dog"]),
        ("paligemma", f"{CORNER}{'<seg127>' * 16} cat;{CORNER}", ["cat", None]),
        ("paligemma", f"Answer: {CORNER} .", [None]),
        ("florence2", f"black cat{FIRST}{FIRST}dog{FIRST}", ["black cat", "black cat", "dog"]),
        ("florence2", f"{FIRST} and the dog {FIRST}.", [None, "and the dog"]),
    ],
)
def test_labels_beside_the_form_are_read(name: str, text: str, labels: list[str | None]) -> None:
    codec = PixelCodec(make(name), Placement(source=SIZE, canvas=SIZE))
    read = codec.read_answer(text)
    assert [box.label for box in read.boxes] == labels
    assert all(text[slice(*span)].replace(" ; ", "").endswith(">") for span in read.spans)


def test_labels_beside_the_form_stay_where_they_are_in_a_text_that_is_rewritten() -> None:
    source, target = make_convention("paligemma", placement="squash"), make_convention("shikra", placement="squash")
    text = f"{CORNER} cat ; {CORNER} dog"
    assert rewrite(text, lambda: SIZE, source=source, target=target).text.count(" cat ; [") == 1


@pytest.mark.parametrize(
    ("text", "label", "points"),
    [
        ('<point x="12.3" y="45.6" alt="dog">dog</point>', "dog", [(0.123, 0.456)]),
        ('<point x="12.3" y="45.6" alt="a > b x1=\'3\'">', "a > b x1='3'", [(0.123, 0.456)]),
        ('<points x1="10" y1="20" x2="30.5" y2=" 40 " alt="eyes">eyes</points>', "eyes", [(0.1, 0.2), (0.305, 0.4)]),
        ('<points y1="20" x1="10">', None, [(0.1, 0.2)]),
    ],
)
def test_molmo_reads_its_elements(text: str, label: str | None, points: list[tuple[float, float]]) -> None:
    (reading,) = make("molmo").read(f"See {text}.", SIZE)
    assert (reading.failure, reading.label, reading.span) == (None, label, (4, 4 + len(text)))
    assert list(reading.points) == [pytest.approx(point) for point in points]


@pytest.mark.parametrize(
    ("text", "label", "points"),
    [
        ('<points coords="1 1 123 456">dog</points>', "dog", [(0.123, 0.456)]),
        ('<points coords="1 1 123 456 2 789 901"> dogs </points>', "dogs", [(0.123, 0.456), (0.789, 0.901)]),
        ('<points coords="1 1 123 456;2 1 789 901"></points>', None, [(0.123, 0.456), (0.789, 0.901)]),
        ('<points coords="1 1 123 456\t2 1 789 901">', None, [(0.123, 0.456), (0.789, 0.901)]),
        ('<points coords="1 1 123 456" alt="dog"/>', None, [(0.123, 0.456)]),
    ],
)
def test_molmo2_reads_its_elements(text: str, label: str | None, points: list[tuple[float, float]]) -> None:
    (reading,) = make("molmo2").read(f"See {text}.", SIZE)
    assert (reading.failure, reading.label, reading.span) == (None, label, (4, 4 + len(text)))
    assert list(reading.points) == [pytest.approx(point) for point in points]


def test_json_objects_inside_one_without_a_region_are_read() -> None:
    box = '{"bbox_2d": [100, 50, 200, 250]}'
    (reading,) = make("qwen3_vl").read(f'{{"objects": [{box}, {box}], "count": 2}}', SIZE)
    assert (len(reading.boxes), reading.failure) == (2, None)


def test_many_json_objects_are_read_in_time() -> None:
    """In linear time: minutes, where every object looks at all that stands before it."""
    assert len(make("qwen3_vl").read('{"bbox_2d": [1, 2, 3, 4]} ' * 8000, SIZE)) == 8000


def test_the_span_of_a_json_answer_holds_its_array_and_fence() -> None:
    box = '{"bbox_2d": [1, 2, 3, 4]}'
    text = f"Sure:\n```json\n[{box}, {box}]\n``` and [{box}]! So ```json\n{box}\n```."
    spans = [reading.span for reading in make("qwen25_vl").read(text, SIZE)]
    assert [text[slice(*span)] for span in spans if span] == [
        text[text.index("```") : text.index(" and")],
        f"[{box}]",
        f"```json\n{box}\n```",
    ]


FAILURES: dict[str, dict[str, list[str]]] = {
    "shikra": {
        "none": ["no box [sic]"],
        "malformed": ["[0.1,0.2,0..3,0.4]", "[0.1,0.2,0.3,0.4", "[0.1,0.2,x3,0.4]", "[0.1 0.2]"],
        "out_of_range": ["[9.999,0.2,9.9995,0.4]", "[-0.3,0.2,-0.1,0.4]", "[0.1,1.2]"],
        "wrong_count": ["[0.1,0.2,0.3;0.4]", "[0.1,0.2,0.3]", "[0.1,0.2,0.3,0.4;0.1,0.2]"],
        "inverted": ["[0.5,0.2,0.3,0.4]"],
    },
    "bins": {
        "none": ["<bin_1>"],
        "malformed": ["<b_st><bin_0><bin_1>", "<b_st><bin_0>, <bin_1>hm<bin_2><bin_3><b_ed>"],
        "out_of_range": [
            "<b_st><bin_0><bin_1001><bin_2><bin_1009><b_ed>",
            "<b_st><bin_-9><bin_1><bin_-2><bin_3><b_ed>",
        ],
        "wrong_count": [
            "<b_st><bin_0><bin_1><bin_2><b_ed>", "<b_st><b_ed>", "<p_st><bin_0><bin_1><bin_2><bin_3><p_ed>",
        ],
        "inverted": ["<b_st><bin_9><bin_1><bin_2><bin_3><b_ed>"],
    },
    "llava15": {
        "none": ["no box [sic]"],
        "malformed": ["[0.12, 0.34, 0.56, 0.78", "[0.12; 0.34]", "[0.12, 0.34 and 0.5, 0.6]"],
        "out_of_range": ["[1.01, 0.34, 1.56, 0.78]", "[120, 340, 560, 780]"],
        "wrong_count": ["[0.12, 0.34, 0.56]", "[0.12, 0.34]"],
        "inverted": ["[0.56, 0.34, 0.12, 0.78]"],
    },
    "ferret": {
        "none": ["no box [sic]"],
        "malformed": ["[12, 34, 56, 78", "[12 34 56 78]"],
        "out_of_range": ["[1012, 34, 1056, 78]", "[-9, 34, -1, 78]"],
        "wrong_count": ["[12, 34, 56]"],
        "inverted": ["[12, 78, 56, 34]"],
    },
    "minigpt_v2": {
        "none": ["{maybe} <p>dog</p>"],
        "malformed": ["{<12><34><56><78>", "{<12>,<34>,<56>,<78>}", "{<1x><2>}", "{<12><34><56><78"],
        "out_of_range": ["{<112><34><156><78>}", "{<-9><34><-1><78>}"],
        "wrong_count": ["{<12><34><56>}", "{<12><34>}"],
        "inverted": ["{<56><34><12><78>}"],
    },
    "kosmos2": {
        "none": ["<phrase>dog</phrase>"],
        "malformed": [
            "<object><patch_index_0001><patch_index_0034>",
            "<object><patch_index_0001> and <patch_index_0034></object>",
        ],
        "out_of_range": ["<object><patch_index_0001><patch_index_1024></object>"],
        "wrong_count": ["<object><patch_index_0001></object>", "<object></object>"],
        "inverted": ["<object><patch_index_0002><patch_index_0033></object>"],
    },
    "qwen_vl": {
        "none": ["<ref>dog</ref>"],
        "malformed": ["<box>(12,34),(56,78)", "<box>(12,34),(56,x)</box>", "<box></box>"],
        "out_of_range": ["<box>(1012,34),(1056,78)</box>", "<box>(12,1000)</box>"],
        "wrong_count": ["<box>(12,34),(56)</box>"],
        "inverted": ["<box>(56,34),(12,78)</box>"],
    },
    "qwen2_vl": {
        "none": ["<|object_ref_start|>dog<|object_ref_end|>"],
        "malformed": ["<|box_start|>(12,34),(56,78)", "<|box_start|>(12,34),,(56,78)<|box_end|>"],
        "out_of_range": ["<|box_start|>(12,1034),(56,1078)<|box_end|>"],
        "wrong_count": ["<|box_start|>(12,34),(56)<|box_end|>"],
        "inverted": ["<|box_start|>(12,78),(56,34)<|box_end|>"],
    },
    "qwen25_vl": {
        "none": ['{"label": "dog"}'],
        "malformed": [
            '{"bbox_2d": [12, 34, 56', '{"bbox_2d": [12, 34, 56, "x"]}', '{"bbox_2d": "12, 34, 56, 78"}',
            '{"bbox_2d": {"x1": 12}}', '{"bbox_2d": [12, 34, 56, 78], "looks": {"colour": "re',
        ],
        "out_of_range": ['{"bbox_2d": [12, 534, 56, 578]}', '{"point_2d": [1001, 78]}'],
        "wrong_count": ['{"bbox_2d": [12, 34]}', '{"point_2d": [12, 34, 56, 78]}', '{"bbox_2d": [1, 2, 3, 4, 5]}'],
        "inverted": ['{"bbox_2d": [56, 34, 12, 78]}'],
    },
    "qwen3_vl": {
        "none": ['{"label": "dog"}'],
        "malformed": ['[{"bbox_2d": [12, 34, 56'],
        "out_of_range": ['{"bbox_2d": [12, 1034, 56, 1078]}'],
        "wrong_count": ['{"bbox_2d": [12, 34, 56]}'],
        "inverted": ['{"bbox_2d": [56, 34, 12, 78]}'],
    },
    "gemini": {
        "none": ['{"label": "dog"}'],
        "malformed": ['{"box_2d": [12, 34, 56', '{"box_2d": [12 34]}'],
        "out_of_range": ['{"box_2d": [1012, 34, 1056, 78]}'],
        "wrong_count": ['{"box_2d": [12, 34, 56]}', '{"point": [12, 34, 56, 78]}'],
        "inverted": ['{"box_2d": [56, 34, 12, 78]}'],
    },
    "internvl": {
        "none": ["<ref>dog</ref>"],
        "malformed": [
            "<box>[[12, 34, 56, 78]]", "<box>[[12, 34, 56, 78]</box>", "<box>[[12, 34, x, 78]]</box>", "<box>[]</box>",
        ],
        "out_of_range": ["<box>[[1012, 34, 1056, 78]]</box>", "<box>[[0.1, 0.2, 0.5, 0.8]]</box>"],
        "wrong_count": ["<box>[[12, 34, 56]]</box>", "<box>[[12, 34]]</box>"],
        "inverted": ["<box>[[56, 34, 12, 78]]</box>"],
    },
    "cogvlm": {
        "none": ["[012,034,056,078]"],
        "malformed": ["[[012,034,056,078", "[[012,034,056,078]", "[[012 034 056 078]]"],
        "out_of_range": ["[[1012,034,1056,078]]"],
        "wrong_count": ["[[012,034,056]]", "[[012,034]]"],
        "inverted": ["[[056,034,012,078]]"],
    },
    "paligemma": {
        "none": ["cat ; dog <location>"],
        "malformed": ["<loc0012><loc0034><loc0056><loc0078", "<loc0012><loc0034><loc0056><loc00x8>"],
        "out_of_range": ["<loc0012><loc1034><loc0056><loc1078>"],
        "wrong_count": ["<loc0012><loc0034><loc0056>", "<loc0012><loc0034>"],
        "inverted": ["<loc0056><loc0034><loc0012><loc0078>"],
    },
    "florence2": {
        "none": ["cat and dog"],
        "malformed": ["<loc_12><loc_34><loc_56><loc_78", "<loc_12><loc_34><loc_56><loc_7x>"],
        "out_of_range": ["<loc_12><loc_1034><loc_56><loc_1078>", "<loc_-9><loc_34><loc_-2><loc_78>"],
        "wrong_count": ["<loc_12><loc_34><loc_56>", "<loc_12><loc_34>"],
        "inverted": ["<loc_56><loc_34><loc_12><loc_78>"],
    },
    "glm": {
        "none": ["<|begin_of_image|>dog<|end_of_image|>"],
        "malformed": [
            "<|begin_of_box|>[[12, 34, 56, 78]]", "<|begin_of_box|>[[12, 34, x, 78]]<|end_of_box|>",
            "<|begin_of_box|>[]<|end_of_box|>",
        ],
        "out_of_range": ["<|begin_of_box|>[[1012, 34, 1056, 78]]<|end_of_box|>"],
        "wrong_count": ["<|begin_of_box|>[[12, 34, 56]]<|end_of_box|>", "<|begin_of_box|>(12, 34)<|end_of_box|>"],
        "inverted": ["<|begin_of_box|>[[56, 34, 12, 78]]<|end_of_box|>"],
    },
    "molmo2": {  # likewise
        "none": ["<points> there </points>"],
        "malformed": [
            '<points coords="1 1 123', '<points coords="1 1 123 left">here</points>',
            '<points coords=1 1 123 456">here</points>', '<points coords="1 1 123 456>here</points>',
            '<points coords="1 1 123 456"',
        ],
        "out_of_range": ['<points coords="1 1 123 1001">dog</points>'],
        "wrong_count": [
            '<points coords="1 1 123">dog</points>', '<points coords="1"></points>',
            '<points coords="1 1 123 456 2 789">dogs</points>', '<points coords="1 1 123 456;2"></points>',
        ],
    },
    "molmo": {  # a point has no second corner: nothing to invert
        "none": ["<point> there </point>"],
        "malformed": ['<point x="12.3" y="45.6"', '<point x="12.3" y="left">here</point>', '<point x="12.3" y="'],
        "out_of_range": ['<point x="12.3" y="100.1" alt="">dog</point>'],
        "wrong_count": ['<point x="12.3" alt="">dog</point>', '<points x1="1" y1="2" x2="3">', '<point x=12 y=34>'],
    },
}  # fmt: skip


def test_every_codec_fails_in_every_class_it_can() -> None:
    assert set(FAILURES) == {*BOXES, *POINTS}
    classes = {"none", "malformed", "out_of_range", "wrong_count", "inverted"}
    for name, cases in FAILURES.items():
        assert set(cases) == classes - ({"inverted"} if name in ("molmo", "molmo2") else set())


@pytest.mark.parametrize(
    ("name", "failure", "text"),
    [(name, failure, text) for name, cases in FAILURES.items() for failure, texts in cases.items() for text in texts],
)
def test_what_cannot_be_read_is_classed(name: str, failure: str, text: str) -> None:
    expected = [] if failure == "none" else [failure]
    assert [reading.failure for reading in make(name).read(text, SIZE)] == expected
    assert [reading.failure for reading in make(name).read(f"Answer: {text}", SIZE)] == expected


def test_the_documented_texts_are_those_that_are_written() -> None:
    """docs/regions.md: each codec's row holds its box, point, frame, bound and number of tokens."""
    page = Path(__file__).parents[3] / "docs" / "regions.md"
    rows = {
        match[1]: [cell.strip().replace(r"\|", "|").strip("`") for cell in re.split(r"(?<!\\)\|", match[0])[2:-1]]
        for match in re.finditer(r"^\| `(\w+)`.*\| (?:canvas|image) \|.*$", page.read_text(), re.MULTILINE)
    }
    assert set(rows) == {*BOXES, *POINTS}
    for name, (box, point, frame, bound, tokens) in rows.items():
        codec = make(name)
        assert box == (BOXES[name][0] if name in BOXES else "")
        assert point == (POINTS[name][0] if name in POINTS else "")
        assert (frame, tokens) == (codec.frame, str(len(codec.tokens) or ""))
        if bound == "1 pixel":
            assert codec.error(SIZE) == pytest.approx(1 / min(SIZE))
        else:
            assert codec.error(SIZE) == codec.error((7, 9)) == pytest.approx(float(bound), rel=0.03)


CAT, DOG = '{"bbox_2d": [100, 50, 200, 250], "label": "cat"}', '{"bbox_2d": [0, 0, 1000, 500], "label": "dog"}'


@pytest.mark.parametrize(
    ("text", "labels", "failure"),
    [
        (f"[{CAT}, {DOG}]", ["cat", "dog"], None),
        (f'[{CAT}, {{"bbox_2d": [0, 0, 10, 10]}}, {DOG}]', ["cat", None, "dog"], None),
        (f'[{CAT}, {{"bbox_2d": [9, 9, 1, 1], "label": "bird"}}, {DOG}]', ["cat", "dog"], "inverted"),
        (f'[{CAT}, {{"bbox_2d": [9, 9, 1]}}, {DOG}]', ["cat", "dog"], "wrong_count"),
        (f'[{CAT}, {DOG}, {{"bbox_2d": [1,', ["cat", "dog"], "malformed"),
    ],
)
def test_each_object_of_a_json_array_keeps_its_label_whatever_the_others_are(
    text: str, labels: list[str | None], failure: str | None
) -> None:
    read = make_convention("qwen3_vl").on((1000, 1000)).read_answer(text)
    assert ([box.label for box in read.boxes], read.failure) == (labels, failure)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("shikra", "[0.100,0.100,0.200,0.200;0.500,0.500,0.400,0.400]"),
        ("internvl", "<box>[[100, 100, 200, 200], [500, 500, 400, 400]]</box>"),
        ("cogvlm", "[[100,100,200,200;500,500,400,400]]"),
    ],
)
def test_a_box_that_can_be_read_counts_beside_one_that_cannot(name: str, text: str) -> None:
    (reading,) = make(name).read(text, SIZE)
    assert reading.failure == "inverted"
    assert [pytest.approx(box) for box in reading.boxes] == [(0.1, 0.1, 0.2, 0.2)]
