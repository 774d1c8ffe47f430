"""Answers in colour."""

from __future__ import annotations

from mllm.commands.chat.coloured import coloured, region_lines
from mllm.report.drawing import colour_of
from mllm.serve.reading import Region
from mllm.types import Box, Point


def test_coloured_marks_phrases_and_forms_and_spells_out_control_characters() -> None:
    text = "a dog [1] \x1b and"
    region = Region(index=1, boxes=(Box(x1=0, y1=0, x2=1, y2=1),), phrase=(0, 5), span=(6, 9), label="a dog")
    shown = coloured(text, [region])
    assert shown.plain == "a dog [1] \\x1b and"
    assert [(shown.plain[span.start : span.end], span.style) for span in shown.spans] == [
        ("a dog", f"bold {colour_of(1)}"),
        ("[1]", f"dim {colour_of(1)}"),
    ]


def test_coloured_shows_a_phrase_inside_its_form() -> None:
    shown = coloured("<dog>[1]", [Region(index=0, phrase=(1, 4), span=(0, 8))])
    assert [shown.plain[span.start : span.end] for span in shown.spans] == ["<", "dog", ">[1]"]


def test_listed_says_each_box_and_point() -> None:
    boxes = Region(index=0, boxes=(Box(x1=0, y1=0, x2=1.25, y2=1),) * 2, label="a\ndog")
    point = Region(index=1, points=(Point(x=1, y=2),), image=1, failure="inverted")
    assert [line.plain for line in region_lines([boxes, point])] == [
        "box   0.0 0.0 1.2 1.0  a\\ndog",
        "box   0.0 0.0 1.2 1.0  a\\ndog",
        "point 1.0 2.0  image 1",
        "cannot be read: inverted",
    ]
