"""Odd answers, family by family: what a model writes that leaves out marks, or reaches out of the image."""

from __future__ import annotations

import pytest

from mllm.conversation.codec_base import UnitBox, read_answer
from mllm.registry import CODECS

SIZE = (1000, 500)
BOX = (0.1, 0.2, 0.5, 0.4)
"""In thousandths 100, 200, 500, 400, in pixels of the frame 100, 100, 500, 200."""

THOUSANDTHS = [
    ("[[100, 200, 500, 400]]", [BOX]),
    ("[100,200,500,400]", [BOX]),
    ("(100,200),(500,400)", [BOX]),
    ("( 100 , 200 ) ,\n( 500 , 400 )", [BOX]),
    ("(100, 200) (500, 400)", [BOX]),
    ("[(100,200),(500,400)]", [BOX]),
    ("(100, 200, 500, 400)", [BOX]),
    ("100, 200, 500, 400", [BOX]),
    ("Answer: 100, 200, 500, 400.", [BOX]),
    ("The answer is **[100, 200, 500, 400]**.", [BOX]),
    ("\\boxed{[100, 200, 500, 400]}", [BOX]),
    ("```json\n[[100, 200, 500, 400]]\n```", [BOX]),
    ("[\n  100.0,\n  200.,\n  +500,\n  400\n]", [BOX]),
    ("[[100, 200, 500, 400], [0, 0, 1000, 1000]]", [BOX, (0, 0, 1, 1)]),
    ("[100, 200, 500, 400; 0, 0, 1000, 1000]", [BOX, (0, 0, 1, 1)]),
    ("the dog [100, 200, 500, 400] and [sic]", [BOX]),
    ("<box_2>(100,200),(500,400)</box_2>", [BOX]),
    ("[-3, 200, 500, 400]", [(-0.003, 0.2, 0.5, 0.4)]),
    ("[100, 200, 500, 1001]", [(0.1, 0.2, 0.5, 1.001)]),
    ("[100, 1200, 500, 1400]", "out_of_range"),
    ("[500, 200, 100, 400]", "inverted"),
    (f"[100, 200, 500, {'9' * 400}]", "out_of_range"),
    ("(0.1, 0.2, 0.5, 0.4)", "out_of_range"),
    ("[100, 200, 500, 1e999]", "malformed"),
    ("[100, 200, 500, NaN]", "malformed"),
    ("[100, 200, 500]", []),
    ("[100 200 500 400]", "malformed"),
    ("[1,000, 200, 1,500, 400]", "malformed"),
    ("[1e2, 2e2, 5e2, 4e2]", "malformed"),
    ("[10%, 20 %, 50%, 40%]", "malformed"),
    ("[100px; 200px; 500px; 400px]", "malformed"),
    ("\uff3b100\uff0c200\uff0c500\uff0c400\uff3d", "malformed"),
    ("[1 2 3 4 5], [1 2 3], [a 1 2 3]", []),
    ("no box", []),
    ('```json\n[{"box": [100, 200, 500, 400], "label": "dog 7"}]\n```', [BOX]),
    ("see [12] and (3)", []),
    ("there are 100, 200 or 300 of them", []),
    ("", []),
]
"""Read by every family whose numbers are thousandths of an image, x first."""

FRACTIONS = [
    ("(0.1,0.2),(0.5,0.4)", [BOX]),
    ("(0.1, 0.2, 0.5, 0.4)", [BOX]),
    ("[0.1,0.2,0.5,0.4]", [BOX]),
    ("[[0.1, .2, 0.50, 0.4]]", [BOX]),
    ("0.1, 0.2, 0.5, 0.4", [BOX]),
    ("[(0.1,0.2),(0.5,0.4)]", [BOX]),
    ("```\n[0.1,0.2,0.5,0.4]\n```", [BOX]),
    ("[0.1,0.2,0.5,1.01]", [(0.1, 0.2, 0.5, 1.01)]),
    ("[-0.01,0.2,0.5,0.4]", [(-0.01, 0.2, 0.5, 0.4)]),
    ("[100,200,500,400]", "out_of_range"),
    ("[0.1,1.2,0.5,1.4]", "out_of_range"),
    ('[{"bbox_2d": [0.1, 0.2, 0.5, 0.4]}, {"bbox_2d": [0, 0, 1, 1]}]', [BOX, (0, 0, 1, 1)]),
    ("[0.1,0.2,0.5,1e999]", "malformed"),
    ("[0.1,0.2,0.5,NaN]", "malformed"),
]
QWEN_VL = [
    (text.replace("100", "99.9").replace("200", "199.8").replace("500", "499.5").replace("400", "399.6"), [BOX])
    for text, boxes in THOUSANDTHS
    if boxes == [BOX] and "100.0" not in text
]
"""Its numbers end at 999."""

ODD: dict[str, list[tuple[str, list[UnitBox] | str]]] = {
    "internvl": [
        *THOUSANDTHS,
        ("[[100, 200], [500, 400]]", [BOX]),
        ("[100, 200], [500, 400]", [BOX]),
        ("<box>100, 200, 500, 400</box>", [BOX]),
        ("<box>100, 200, 500</box>", "wrong_count"),
        ("<box>[[100, 200, 500, 400]]", [BOX]),
        ("<ref>dog</ref>[[100, 200, 500, 400]]", [BOX]),
        ("<box>[[100, 200, 500, 400]", [BOX]),
        ("<box>[[100, 200, 500, 4", "malformed"),
        ("<box>[[100, 200, x, 400]]</box>", "malformed"),
        ("<box>(100,200),(500,400)</box>", [BOX]),
        ("<box>[]</box>", "malformed"),
    ],
    "qwen_vl": [
        *QWEN_VL,
        ("<box>(99.9,199.8),(499.5,399.6)", [BOX]),
        ("<box>(0,0),(1000,999)</box>", [(0, 0, 1000 / 999, 1)]),
    ],
    "qwen2_vl": [
        *THOUSANDTHS,
        ("<|box_start|>(100,200),(500,400)", [BOX]),
        ("<box>(100,200),(500,400)</box>", [BOX]),
        ("<|box_start|>(100,200),(500,4", "malformed"),
        ("<|box_start|>(100,200),(500,1003)<|box_end|>", [(0.1, 0.2, 0.5, 1.003)]),
    ],
    "qwen3_vl": [
        *THOUSANDTHS,
        ('{"bbox": [100, 200, 500, 400]}', [BOX]),
        ('```json\n[{"box": [100, 200, 500, 400], "label": "dog"}]\n```', [BOX]),
        ('{"bbox_2d": [100, 200, 500, 1003]}', [(0.1, 0.2, 0.5, 1.003)]),
        ("[]", []),
        ("```json\n[]\n```", []),
    ],
    "cogvlm": [
        *THOUSANDTHS,
        ("[100, 200], [500, 400]", [BOX]),
        ("[100,200,500,400]]", [BOX]),
        ("[[100,200,500,400]", [BOX]),
    ],
    "ferret": [
        ("[[100, 200, 500, 400]]", [BOX]),
        ("(100,200),(500,400)", [BOX]),
        ("[(100,200),(500,400)]", [BOX]),
        ("(100, 200, 500, 400)", [BOX]),
        ("100, 200, 500, 400", [BOX]),
        ("[-3, 200, 500, 400], [100, 200, 500, 1001]", [(-0.003, 0.2, 0.5, 0.4), (0.1, 0.2, 0.5, 1.001)]),
        ('```json\n[{"bbox_2d": [100, 200, 500, 400], "label": "dog 7"}]\n```', [BOX]),
        ("[100, 200, 500, 1e999]", "malformed"),
        ("[100, 200, 500]", "wrong_count"),
    ],
    "qwen25_vl": [
        ("[100, 100, 500, 200]", [BOX]),
        ("(100,100),(500,200)", [BOX]),
        ("Answer: 100, 100, 500, 200", [BOX]),
        ('```json\n[{"bbox": [100, 100, 500, 200]}]\n```', [BOX]),
        ("[100, 100, 500, 501]", [(0.1, 0.2, 0.5, 1.002)]),
        ("[100, 600, 500, 700]", "out_of_range"),
    ],
    "gemini": [
        ("[200, 100, 400, 500]", [BOX]),
        ("```json\n[[200, 100, 400, 500]]\n```", [BOX]),
        ('{"bbox": [200, 100, 400, 500]}', [BOX]),
        ("(200, 100), (400, 500)", []),  # corners: of which order?
    ],
    "shikra": FRACTIONS,
    "llava15": FRACTIONS,
    "bins": [
        ("<bin_100><bin_200><bin_500><bin_400>", [BOX]),
        ("box: <bin_100> <bin_200> <bin_500> <bin_400> .", [BOX]),
        ("<b_st><bin_100><bin_200><bin_500><bin_400><b_ed> <bin_0><bin_0><bin_1000><bin_1000>", [BOX, (0, 0, 1, 1)]),
        ("<bin_100><bin_200><bin_500>", "wrong_count"),
        ("<b_st><bin_100><bin_200><bin_500><bin_1003><b_ed>", [(0.1, 0.2, 0.5, 1.003)]),
        ("[100, 200, 500, 400]", "malformed"),
    ],
    "minigpt_v2": [
        ("<10><20><50><40>", [BOX]),
        ("{<10><20><50><101>}", [(0.1, 0.2, 0.5, 1.01)]),
        ("<10>", []),
        ("[10, 20, 50, 40]", "malformed"),
    ],
    "kosmos2": [
        ("<patch_index_0033><patch_index_0132>", [(1.5 / 32, 1.5 / 32, 4.5 / 32, 4.5 / 32)]),
        ("<patch_index_0033><patch_index_1024>", "out_of_range"),
        ("[100, 200, 500, 400]", "malformed"),
    ],
    "florence2": [
        ("<loc_100><loc_200><loc_500><loc_1000>", [(0.1005, 0.2005, 0.5005, 1.0005)]),
        ("[100, 200, 500, 400]", "malformed"),
    ],
    "paligemma": [
        ("<loc0000><loc0000><loc1023><loc1024>", [(0, 0, 1024 / 1023, 1)]),
        ("[100, 200, 500, 400]", "malformed"),
    ],
    "glm": [
        *THOUSANDTHS,
        ("[[100, 200], [500, 400]]", [BOX]),
        ("<|begin_of_box|>100, 200, 500, 400<|end_of_box|>", [BOX]),
        ("<|begin_of_box|>(100, 200, 500, 400)<|end_of_box|>", [BOX]),
        ("<|begin_of_box|>[100, 200, 500, 400]<|end_of_box|>", [BOX]),
        ("<|begin_of_box|>[[100, 200, 500, 400]]", [BOX]),
        ("<|begin_of_box|>[[100, 200, 500, 4", "malformed"),
    ],
    "molmo": [("[100, 200, 500, 400]", "malformed")],
    "molmo2": [("[100, 200, 500, 400]", "malformed")],
}  # fmt: skip


def test_every_family_is_tried() -> None:
    assert set(ODD) == {name for name in CODECS.names() if CODECS.find(name).__module__.startswith("mllm.")}


@pytest.mark.parametrize(
    ("name", "text", "expected"), [(name, text, expected) for name, rows in ODD.items() for text, expected in rows]
)
def test_read_answer_of_odd_strings(name: str, text: str, expected: list[UnitBox] | str) -> None:
    readings = read_answer(CODECS.make(name), text, SIZE)
    boxes = [box for reading in readings for box in reading.boxes]
    failures = {reading.failure for reading in readings} - {None}
    assert (failures or {None}) == {expected if isinstance(expected, str) else None}
    expected = [] if isinstance(expected, str) else expected
    assert [pytest.approx(box) for box in expected] == boxes


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("qwen2_vl", "(300, 400)", [(0.3, 0.4)]),
        ("qwen2_vl", "[[300, 400], [0, 1000]]", [(0.3, 0.4), (0, 1)]),  # boxes, or points? points are written so
        ("qwen2_vl", "(300, 400) in (100,200),(500,400)", []),  # a box, and what is around it
        ("qwen3_vl", "The point is (300, 400).", [(0.3, 0.4)]),
        ("qwen25_vl", "(300, 200)", [(0.3, 0.4)]),
        ("gemini", "[400, 300]", [(0.3, 0.4)]),
        ("molmo", "(30.0, 40)", [(0.3, 0.4)]),
        ("molmo", "(0.5, 0.4)", [(0.005, 0.004)]),
        ("molmo", "30, 40", []),
        ("shikra", "(0.3, 0.4)", [(0.3, 0.4)]),
        ("internvl", "(300, 400)", []),
        ("glm", "(300, 400)", []),
        ("bins", "<bin_300><bin_400>", [(0.3, 0.4)]),
    ],
)
def test_read_answer_of_bare_points(name: str, text: str, expected: list[tuple[float, float]]) -> None:
    readings = read_answer(CODECS.make(name), text, SIZE)
    assert [point for reading in readings for point in reading.points] == [pytest.approx(point) for point in expected]


@pytest.mark.parametrize("text", ["100, 200, 500, 400", "Answer: 100, 200, 500, 400.", "**[100, 200, 500, 400]**"])
def test_read_answer_says_where_bare_numbers_stand(text: str) -> None:
    (reading,) = read_answer(CODECS.make("internvl"), text, SIZE)
    assert reading.span is not None
    assert text[slice(*reading.span)].strip("[]") == "100, 200, 500, 400"


@pytest.mark.parametrize("name", ["internvl", "qwen2_vl", "qwen3_vl", "cogvlm", "gemini"])
def test_bare_numbers_are_no_regions_outside_of_answers(name: str) -> None:
    """In a dataset's words a list is a list: only marks make boxes of them."""
    assert CODECS.make(name).read("the list [1, 2, 3, 4] and (1, 2), (3, 4)", SIZE) == []


@pytest.mark.parametrize("value", ["[]", "null", "[ ]", "None"])
def test_an_object_that_says_that_there_is_no_region_holds_none(value: str) -> None:
    codec = CODECS.make("qwen25_vl")
    assert read_answer(codec, f'```json\n[{{"bbox_2d": {value}, "label": "dog"}}]\n```', SIZE) == []
    (whole,) = read_answer(codec, f'[{{"bbox_2d": {value}}}, {{"bbox_2d": [100, 100, 500, 200]}}]', SIZE)
    assert len(whole.boxes) == 1
