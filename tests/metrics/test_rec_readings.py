from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from mllm.errors import ConfigError, DataError
from mllm.metrics.rec import REC
from mllm.metrics.rec_readings import READINGS
from mllm.registry import METRICS
from mllm.types import Box, GroundTruth, Prediction

SIZE = (200, 100)
TRUTH = (20.0, 10.0, 120.0, 60.0)
"""[100, 100, 600, 600] of 1000."""

PATCHES, ELSEWHERE = "<patch_index_0099><patch_index_0627>", "<patch_index_0988><patch_index_1023>"
DELIMITER = "</delimiter_of_multi_objects/>"

TEXTS: list[tuple[str, str, float | None]] = [
    # reading, answer, IoU with the truth; None: no box
    ("internvl", "<ref>a dog</ref><box>[[100, 100, 600, 600]]</box>", 1),
    ("internvl", "[0.1, 0.1, 0.6, 0.6]", 1),
    ("internvl", "[100,100,600,600] or [0,0,1,1]", 1),
    ("internvl", '[{"bbox_2d": [100, 100, 600, 600]}]', None),
    ("internvl", "(100,100),(600,600)", None),
    ("internvl", "[100, 100, 600]", None),
    ("internvl", "[100, 100, 600, a]", None),
    ("internvl", "[600, 600, 100, 100]", 0),
    ("internvl", "[100, 100, 600, 1100]", 0.5),  # nothing is clipped
    ("qwen_vl", "<box>(100,100),(600,600)</box>", 0.996),
    ("qwen_vl", "(99.9,99.9),(599.4,599.4)", 1),
    ("qwen_vl", "(99.9,99.9), (599.4,599.4)", None),
    ("qwen_vl", "(a dog) at (99.9,99.9),(599.4,599.4)", None),  # the first group begins with the words
    ("qwen_vl", "(99.9;99.9),(599.4,599.4)", None),
    ("qwen_vl", "[100,100,600,600]", None),
    ("qwen3_vl", '```json\n[{"bbox_2d": [100, 100, 600, 600], "label": "dog"}]\n```', 1),
    ("qwen3_vl", '[{"label": "dog"}, {"bbox_2d": [100, 100, 600, 600]}, {"bbox_2d": [0, 0, 1, 1]}]', 1),
    ("qwen3_vl", '[{"bbox_2d": [100, 100, 600]}]', None),
    ("qwen3_vl", '[{"bbox_2d": ["100", 100, 600, 600]}]', None),
    ("qwen3_vl", "[100, 100, 600, 600]", None),
    ("cogvlm", "A dog [[100,100,600,600]].", 1),
    ("cogvlm", "[[100,100,300,600;200,200,600,600]]", 1),  # one box around both
    ("cogvlm", "[[100,100,300,600]] and [[200,200,600,600]]", 1),
    ("cogvlm", "[[100, 100, 600, 600]]", None),  # digits and commas only
    ("cogvlm", "[100,100,600,600]", None),
    ("cogvlm", "[[100,100,600]]", None),
    # in the square of 200, with 50 above the image: 0.1, 0.3, 0.6, 0.55
    ("shikra", "Answer: [0.100,0.300,0.600,0.550] .", 1),
    ("shikra", "[0.1,0.3,0.6,0.55]", 1),
    ("shikra", "[0.1, 0.3, 0.6, 0.55]", None),
    ("shikra", "[0.1,0.3,0.6,0.55;0,0,1,1]", None),
    ("shikra", "[0.1,0.3,0.6,0.55] or [0,0,1,1]", None),
    ("shikra", "[10.1,0.3,0.6,0.55]", None),
    # a pixel more on each side: 101 x 51 against 101 x 26 -> overlap 101 * 26
    ("minigpt_v2", "{<10><10><60><60>}", 1),
    ("minigpt_v2", "{<10> <10> <60> <60>}<unk> and more", 1),
    ("minigpt_v2", "<unk> {<10><10><60><60>}", 1),
    ("minigpt_v2", "{<10><10><60><35>}", 101 * 26 / (101 * 51)),
    ("minigpt_v2", "the dog {<10><10><60><60>}", None),
    ("minigpt_v2", "{<10><10><60><1000>}", None),
    ("ferret", "the dog [100, 100, 600, 600].", 1),
    ("ferret", "the dog [100, 100, 600, 600], [0, 0, 1, 1].", 1),
    ("ferret", "the dog [100, 100, 600, 600] [sic].", None),
    ("ferret", "[[100, 100, 600, 600]]", None),
    ("ferret", "[100.0, 100, 600, 600]", None),
    ("ferret", "100, 100, 600, 600] is a dog", 1),  # what is missing in front is not missed
    ("ferret", "[100, 100, 600, 600, 7]", 1),
    ("ferret", "[100, 100, 600, 600] 1, 2, 3, 4]", None),  # behind a box all is skipped up to the next comma
    ("ferret", "[104, 109, 604, 609]", 1),  # 20.8, 10.9, 120.8, 60.9 are cut down to whole pixels
    ("paligemma", "<loc0102><loc0102><loc0614><loc0614>" + "<seg000>" * 16 + " dog", 0.9985),
    ("paligemma", "<loc0102><loc0102><loc0614><loc0614> dog", None),
    ("paligemma", "<loc0614><loc0102><loc0102><loc0614>" + "<seg000>" * 16, None),
    ("paligemma", "<loc0102><loc0102><loc0614><loc0102>" + "<seg000>" * 16, None),
    ("paligemma", "<loc0102><loc0102><loc0102><loc0614>" + "<seg000>" * 16, None),
    ("vlmevalkit", "[0.1, 0.1, 2, 2]", 0),
    ("vlmevalkit", "[100 100 600 600]", 1),
    ("vlmevalkit", "100 100 600 600 7", 1),
    ("vlmevalkit", "[500, 0, 1000, 1000]", 1000 / 14000),  # up to 1000 of 1000
    ("vlmevalkit", "[20, 10, 120, 1001]", 5000 / 9000),  # above it pixels
    ("vlmevalkit", "[0.1, 0.1, 1.5, 1.5]", 5000 / 16200),  # up to 1.5 fractions
    ("vlmevalkit", "[0.1, 0.1, 0.6, 0.6]", 1),
    ("vlmevalkit", "from (100,100) to (600,600)", 1),
    ("vlmevalkit", "[600, 600, 100, 100]", 1),  # corners are sorted
    ("vlmevalkit", "[100, 100, 600]", None),
    ("vlmevalkit", "I see 3 dogs", None),
    ("vlmevalkit", "[-2000, -2000, 2000, 2000]", 100 * 50 / (200 * 100)),  # clipped to the image
    ("lmms_eval", "[0.1, 0.1, 0.6, 0.6]", 1),
    ("lmms_eval", "[100, 100, 600, 600]", 0),  # never rescaled
    ("lmms_eval", "(0.1, 0.1, 0.6, 0.6)", None),
    # cells 3, 3 and 19, 19 of 32: centres 21.875, 10.9375, 121.875, 60.9375
    ("kosmos2", f"<phrase>a dog</phrase><object>{PATCHES}</object>", 0.9284),
    ("kosmos2", f"<phrase>a dog</phrase><object>{PATCHES}{DELIMITER}{ELSEWHERE}</object>", 0.9284),
    ("kosmos2", f"<phrase>a dog</phrase><object>{ELSEWHERE}{DELIMITER}{PATCHES}</object>", 0),
    ("kosmos2", f"<phrase> a dog </phrase> is <phrase>a dog</phrase><object>{PATCHES}</object>", 0.9284),
    ("kosmos2", f"<phrase>a dog</phrase> on <phrase>grass</phrase><object>{PATCHES}</object>", None),
    ("kosmos2", f"<phrase>a dog</phrase> <object>{PATCHES}</object>", None),  # a blank parts them
    ("kosmos2", f"<phrase>a dog</phrase><object>{PATCHES}", None),
    ("kosmos2", "<phrase>a dog</phrase><object><patch_index_0099></object>", None),
    ("kosmos2", "<phrase>a dog</phrase><object><patch_index_0627><patch_index_0099></object>", 0),
    # a row of cells, from edge to edge: y 9.375 to 12.5, x 18.75 to 125
    ("kosmos2", "<phrase>a dog</phrase><object><patch_index_0099><patch_index_0115></object>", 250 / 5082.03),
    ("kosmos2", "[100, 100, 600, 600]", None),
    # of 200 x 100 the family makes 196 x 112
    ("qwen25_vl", "[19.6, 11.2, 117.6, 67.2]", 1),
    ("qwen25_vl", '```json\n[{"bbox_2d": [20, 11, 118, 67], "label": "a dog"}]\n```', 0.9848),
    ("qwen25_vl", "[[0,0,1,1],[19.6,11.2,117.6,67.2]]", 0),
    ("qwen25_vl", "(19.6, 11.2, 117.6, 67.2)", None),
    ("qwen25_vl", "[19.6 11.2 117.6 67.2]", None),
    ("qwen25_vl", "[118, 67, 20, 11]", 0),
    ("qwen25_vl", "[1e2, 11, 118, 67]", None),
]


@pytest.mark.parametrize(("reading", "text", "expected"), TEXTS, ids=[f"{name} {text}" for name, text, _ in TEXTS])
def test_a_public_reading_takes_an_answer_as_its_code_does(reading: str, text: str, expected: float | None) -> None:
    iou = READINGS[reading].iou(text, TRUTH, SIZE)
    assert iou == (None if expected is None else pytest.approx(expected, abs=2e-3 if expected != 1 else 1e-6))


@pytest.mark.parametrize("reading", READINGS)
@pytest.mark.parametrize("text", ["", "no box", "[]", "[[", "(),()", "{<", "[,,,]", "[[;]]", "```json\n[", "]" * 50])
def test_a_public_reading_finds_no_box_in_anything_else(reading: str, text: str) -> None:
    assert READINGS[reading].iou(text, TRUTH, SIZE) is None


def test_a_public_reading_says_whether_an_iou_of_just_the_threshold_is_right() -> None:
    right = [name for name, reading in READINGS.items() if reading.is_right(0.5, 0.5)]
    assert set(READINGS) - set(right) == {"cogvlm", "shikra", "minigpt_v2", "qwen25_vl"}
    for reading in READINGS.values():
        assert (reading.is_right(0.51, 0.5), reading.is_right(0.49, 0.5)) == (True, False)


@pytest.mark.parametrize(
    ("reading", "whole", "corner"),
    [
        ("internvl", "[0,0,1000,1000]", "[0,0,50,50]"),
        ("qwen_vl", "(0,0),(999,999)", "(0,0),(50,50)"),
        ("qwen3_vl", '{"bbox_2d": [0, 0, 1000, 1000]}', '{"bbox_2d": [0, 0, 50, 50]}'),
        ("cogvlm", "[[000,000,1000,1000]]", "[[000,000,050,050]]"),
        ("shikra", "[0,0.25,1,0.75]", "[0,0,0.1,0.1]"),
        ("ferret", "[0, 0, 1000, 1000]", "[0, 0, 50, 50]"),
        ("paligemma", "<loc0000><loc0000><loc1023><loc1023>", "<loc0000><loc0000><loc0050><loc0050>"),
        ("vlmevalkit", "[0, 0, 1000, 1000]", "[0, 0, 50, 50]"),
        ("lmms_eval", "[0, 0, 1, 1]", "[0, 0, 0.05, 0.05]"),
        ("qwen25_vl", "[0, 0, 196, 112]", "[0, 0, 9, 9]"),
    ],
)
def test_a_public_reading_of_the_whole_image_and_of_a_corner_is_exact(reading: str, whole: str, corner: str) -> None:
    masks = "<seg000>" * 16 if reading == "paligemma" else ""
    assert READINGS[reading].iou(whole + masks, (0, 0, *SIZE), SIZE) == 1
    assert READINGS[reading].iou(corner + masks, TRUTH, SIZE) == 0


def test_kosmos2_alone_reads_its_prompt() -> None:
    assert {name: reading.prompt for name, reading in READINGS.items() if reading.prompt} == {
        "kosmos2": "<phrase>{}</phrase>"
    }


def test_kosmos2_reads_the_prompt_before_the_answer() -> None:
    answer = replace(said(0, f"<object>{PATCHES}</object>"), expression="a dog")
    whole = replace(answer, text=f"<phrase>a dog</phrase>{answer.text}")
    other = replace(answer, text=f" on <phrase>grass</phrase>{answer.text}")
    assert [REC(reading="kosmos2").value(one) for one in (answer, whole, other)] == [1, 1, 0]
    with pytest.raises(DataError, match="a:0: expression: expected the expression"):
        REC(reading="kosmos2")([said(0, "<object>")])


def said(index: int, text: str, *, size: tuple[int, int] | None = SIZE) -> Prediction:
    truth = GroundTruth(boxes=(Box(x1=20, y1=10, x2=120, y2=60),))
    return Prediction(key=f"a:{index}", index=index, text=text, truth=truth, image_size=size)


def test_rec_scores_by_the_reading_that_it_is_given() -> None:
    answers = [said(0, "[100, 100, 600, 600]"), said(1, "[100, 100, 600, 350]"), said(2, "a dog")]
    scores = REC(reading="internvl")(answers)
    assert scores["acc@0.5"] == pytest.approx(2 / 3)  # a tie is right by its rule
    assert scores["acc@0.75"] == pytest.approx(1 / 3)
    assert scores["mean_iou"] == pytest.approx((1 + 0.5) / 3)
    assert (scores["failure_none"], scores["count"]) == (1, 3)
    assert [REC(reading="internvl").value(answer) for answer in answers] == [1, 1, 0]


def test_rec_breaks_ties_as_its_reading_says() -> None:
    half = "A dog [[100,100,600,350]]."
    assert READINGS["cogvlm"].iou(half, TRUTH, SIZE) == 0.5
    assert REC(reading="cogvlm")([said(0, half)])["acc@0.5"] == 0


def test_rec_refuses_readings_that_it_does_not_know_and_answers_without_a_size() -> None:
    with pytest.raises(
        ConfigError, match=r"'REC': reading: expected one of .*, found str 'intern'; did you mean 'internvl'"
    ):
        METRICS.make({"type": "REC", "reading": "intern"})
    with pytest.raises(DataError, match="a:0: image_size: expected width and height"):
        REC(reading="internvl")([said(0, "[1,2,3,4]", size=None)])


HUGE = "9" * 400


@pytest.mark.parametrize("reading", READINGS)
@pytest.mark.parametrize(
    "text",
    [
        f"[{HUGE},{HUGE},{HUGE},{HUGE}]",
        f"[[{HUGE},0,{HUGE},0]]",
        f"({HUGE},0),(0,{HUGE})",
        f'[{{"bbox_2d": [{HUGE}, 0, {HUGE}, 1]}}]',
        "[nan, nan, nan, nan]",
        "[-inf, -inf, inf, inf]",
        "[1e400, 0, 1e400, 0]",
        "(nan,nan),(nan,nan)",
        '[{"bbox_2d": [NaN, 0, Infinity, 1]}]',
    ],
)
def test_numbers_that_are_none_or_beyond_all_images_are_no_hit(reading: str, text: str) -> None:
    iou = READINGS[reading].iou(text, TRUTH, SIZE)
    assert iou is None or 0 <= iou < 0.5


def test_the_table_of_the_docs_is_what_the_readings_give() -> None:
    docs = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text(encoding="utf-8")
    lines = docs.split("<!-- readings -->\n")[1].split("\n\n")[0].splitlines()
    header, _, *rows = ([cell.strip() for cell in line.strip("|").split("|")] for line in lines)
    assert len(rows) == 6
    for answer, *cells in rows:
        ious = [READINGS[name].iou(answer.strip("`"), TRUTH, SIZE) for name in header[1:]]
        assert cells == ["-" if iou is None else f"{iou:.2f}" for iou in ious], answer
