from __future__ import annotations

import pytest

from mllm.dataset.written_regions import writes_coordinates, written_regions

FORMS = [
    "<quad>(1,2),(3,4),(5,6),(7,8)</quad>",  # Qwen-VL
    "<|det|>[[1, 2, 3, 4]]<|/det|>",  # DeepSeek-VL2
    "<|begin_of_box|>[[1,2,3,4]]<|end_of_box|>",  # GLM
    "<box>10 20 30 40</box>",  # MiniCPM-V
    "<bbox>[0.1, 0.2, 0.3, 0.4]</bbox>",
    "<region>1,2,3,4</region>",
    "<|box_start|><12><412><339><568><|box_end|>",  # Rex-Omni
    "<point>12 34</point>",
    "start_box='(12,34)'",  # UI-TARS
    'data-bbox="12 34 56 78"',  # Qwen2.5-VL's HTML
    'coords="1 1 123 456"',  # Molmo 2
    '"bbox": [1, 2, 3, 4]',
    '"polygon": [[1, 2], [3, 4], [5, 6]]',
    "bbox=[1,2,3,4]",
    *("<bbox>", "<ref-object>", "<quad>"),  # ms-swift's, whose regions stand elsewhere
    "(12,34),(56,78)",
    "( 0.1, 0.2 ), (0.3, 0.4)",
    *("&lt;box&gt;", "&lt;|box_start|&gt;", "&lt;point x=", "&lt;bin_1&gt;&lt;bin_20&gt;"),  # as web pages escape them
    *("</box>", "<|box_end|>", "</point>"),  # beside numbers that lack the other mark
    "\uff3b0.1\uff0c 0.2\uff0c0.3\uff0c0.4\uff3d",
]


@pytest.mark.parametrize("words", FORMS)
def test_written_regions_finds_public_forms(words: str) -> None:
    text = f"The dog is {words} there."
    assert [text[slice(*span)].strip() for span in written_regions(text)] == [words]
    assert writes_coordinates(text)


@pytest.mark.parametrize(
    "text",
    [
        *("R = {(1,2),(2,3)}", "(10,20),(30,40),(50,60)", "A(12,34), B(56,78)", "(56,78),(12,34)", "(2019), (2020)"),
        *("<td>1,234</td>", "<points> and <point>", "checkpoint = 12", "the box: 3, 4", "points: 12, 34", "vertex=12"),
        *("<b>12, 34</b>", "if a[1,2] == (3,4)", "<boxes> is <image>"),
        *("&lt;td&gt;12&lt;/td&gt;", "a &lt; 12 &gt; b", "\uff081\uff0c2\uff09"),
    ],
)
def test_written_regions_leaves_other_numbers_alone(text: str) -> None:
    assert not list(written_regions(text))


@pytest.mark.parametrize(
    "text", ["[0.1, 0.25, 0.3, 0.5]", "(12,40)", "<loc0012><loc0300>", "<25>", 'x="61.5" y="40"', "at .25 .5", "{<3>}"]
)
def test_writes_coordinates_as_numbers(text: str) -> None:
    assert writes_coordinates(f"The dog is {text}.")


@pytest.mark.parametrize("text", ["<image>\nTwo dogs, 3 cats.", "<boxes> and <points>", "It costs 2.50 (two of 3)."])
def test_writes_coordinates_not_in_other_words(text: str) -> None:
    assert not writes_coordinates(text)
